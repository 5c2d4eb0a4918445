"""Runs a batch, and smaller parts of it where it does not fit in memory or one of its images raises."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from renoise.errors import InputError, InputWarning

Result = TypeVar("Result")

LIBRARIES = {"accelerate", "diffusers", "lightning", "peft", "safetensors", "torch", "torchvision", "transformers"}
"""An error is located in the last line of code that does not belong to one of these."""
MAX_PROBLEM = 400
"""Characters of an error's text that a problem contains."""


class BrokenDeviceError(InputError):
    """The device does not work any more, so that no further image can be done."""


def in_halves(
    index: Sequence[int], run: Callable[[Sequence[int]], list[Result]], failed: Callable[[int, str], Result]
) -> list[Result]:
    """Runs a function on all positions of a batch at once. Where it raises, the two halves are run one after the other.

    So a batch that needs too much memory is done in parts, and an image that raises costs only itself.

    Args:
        index: Positions in the batch.
        run: Returns the results of these positions. It may raise anything.
        failed: Returns the result of a position for which `run` raises even alone, by what went wrong.

    Raises:
        BrokenDeviceError: No image can be done any more.

    Example:
        >>> from renoise.utils.halves import in_halves
        >>> def divide(index):
        ...     return [6 // position for position in index]
        >>> in_halves([3, 0, 2], divide, lambda position, problem: problem.split(" (")[0])
        [2, 'ZeroDivisionError: integer division or modulo by zero', 3]
    """
    try:
        return run(index)
    except BrokenDeviceError:
        raise
    except Exception as error:  # editors and inversion methods of other packages may raise anything; the run must go on
        if _is_broken_device(error):
            text = f"the device failed, so the run ends here; finished images are kept: {_text(error)}"
            raise BrokenDeviceError(text) from error
        problem = problem_of(error)
        if is_out_of_memory(error) and len(index) > 1:
            text = (
                f"out of memory with {len(index)} images at once; they are done in halves. To save the failed attempt, "
            )
            warnings.warn(f"{text}set data.batch_size to {len(index) // 2}", InputWarning, stacklevel=2)
    # Here the error is gone, and with it the tensors that its frames held.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(index) == 1:
        return [failed(index[0], problem)]
    middle = (len(index) + 1) // 2
    return in_halves(index[:middle], run, failed) + in_halves(index[middle:], run, failed)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that the memory of the device or of the machine is too small.

    Args:
        error: The error, or one that was raised from it.

    Example:
        >>> from renoise.utils.halves import is_out_of_memory
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(KeyError())
        (True, False)
    """
    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        return True
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def problem_of(error: Exception) -> str:
    """Returns what went wrong as one line for the manifest.

    It names the place in the code, so that its author finds it, unless the error is a ValueError: that is about a value
    and says which.

    Args:
        error: The error that one image raised alone.
    """
    if is_out_of_memory(error):
        return (
            f"out of memory with a batch of 1; lower data.resolution, or free memory of other programs ({_text(error)})"
        )
    text = f"{type(error).__name__}: {_text(error)}"
    place = _place(error)
    return text if isinstance(error, ValueError) or place is None else f"{text} ({place})"


def _text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_PROBLEM else f"{text[:MAX_PROBLEM]}…"


def _place(error: Exception) -> str | None:
    """Returns the file and the line that raised, or the last one that called a library."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [pair for pair in frames if pair[0].f_globals.get("__name__", "").split(".")[0] not in LIBRARIES]
    if not own:
        return None
    frame, line = own[-1]
    return f"{Path(frame.f_code.co_filename).name}:{line}"


def _is_broken_device(error: Exception) -> bool:
    """Returns whether every later call to the GPU will fail as well, such as after an illegal memory access."""
    broken = getattr(torch, "AcceleratorError", ())  # since torch 2.8
    return not is_out_of_memory(error) and (isinstance(error, broken) or str(error).startswith("CUDA error: "))
