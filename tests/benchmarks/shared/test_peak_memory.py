from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.shared.peak_memory import MIB, with_peak


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="measures this process on Linux")
def test_the_peak_counts_memory_that_was_freed_meanwhile_and_forgets_what_was_freed_before() -> None:
    def allocate() -> str:
        torch.ones(200 * MIB // 4).sum()
        return "done"

    result, large = with_peak(allocate)
    _, small = with_peak(lambda: None)
    assert result == "done"
    assert 195 < large - small < 260
