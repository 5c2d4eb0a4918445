"""The peak memory of this process and of its GPU while it does something."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")
MIB = 2**20


def with_peak(work: Callable[[], Result]) -> tuple[Result, float]:
    """Does some work.

    Returns:
        Its result, and the greatest MiB meanwhile: of tensors on the GPU where there is one, otherwise of the whole
        process (NaN on systems other than Linux, which do not let a process reset its peak).
    """
    on_gpu = torch.cuda.is_available()
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    elif reset.exists():
        reset.write_text("5")
    result = work()
    if on_gpu:
        return result, torch.cuda.max_memory_allocated() / MIB
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if reset.exists() else None
    return result, int(found[1]) * 1024 / MIB if found else float("nan")
