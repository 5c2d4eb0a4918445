"""Devices and types of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from renoise.errors import InputError

WEIGHTS = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}
"""The type of the weights under each of Lightning's precisions. Under all others it is float32."""


@contextmanager
def default_device_and_dtype() -> Iterator[None]:
    """Makes new tensors float32 on the CPU inside the block.

    Lightning sets another default device and type while it sets up a model, but checkpoints have their own.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def check_half_precision(device: torch.device) -> None:
    """Checks that a device can compute in float16.

    Raises:
        InputError: It cannot.
    """
    try:
        pixel = torch.ones(1, 1, 1, 1, dtype=torch.float16, device=device)
        F.conv2d(pixel, pixel)
    except RuntimeError as error:
        raise InputError(
            f"trainer.precision: this {device.type} cannot run the model in float16 ({error}); use 32-true, "
            "bf16-true or bf16-mixed"
        ) from error


def widest_float(device: torch.device) -> torch.dtype:
    """Returns float64, or float32 on Apple's GPUs (MPS), which have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
