"""What metrics with a network share: loading it, and running it in full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from safetensors import SafetensorError

from renoise.errors import InputError
from renoise.utils.hub import check_hub
from renoise.utils.progress import report

Loaded = TypeVar("Loaded")

LOADING_ERRORS = (OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError, SafetensorError)
"""What transformers raises for files that are missing, damaged or of another model."""


def load_pretrained(checkpoint: str, what: str, load: Callable[[bool], Loaded]) -> Loaded:
    """Loads a network of the hub or of a local folder.

    Args:
        checkpoint: A hub id or a local folder in transformers layout.
        what: What the network is, such as "a CLIP", for messages.
        load: Loads it; gets whether only the hub's cache may be used.

    Raises:
        InputError: It is not at hand and cannot be downloaded, or cannot be loaded.
    """
    try:
        only_cached = check_hub(checkpoint, "config.json", "metrics")
    except InputError as error:
        advice = f"run `hf download {checkpoint}` where there is a network, or give a local folder as `checkpoint`"
        raise InputError(f"{error}; {advice}") from None
    report(f"loading {checkpoint}, which a metric needs …")
    try:
        return load(only_cached)
    except LOADING_ERRORS as error:
        raise InputError(
            f"metrics: {checkpoint} cannot be loaded as {what}: {' '.join(str(error).split())}; "
            "give another folder or hub id as `checkpoint`"
        ) from error


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Runs a block without gradients, and in float32 also where a run computes in half precision.

    Args:
        device: Where the block computes.
    """
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield
