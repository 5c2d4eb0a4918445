from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import edit_costs
from benchmarks.edit_costs import overhead_table, overheads
from benchmarks.edit_suites import EditorSetting, InversionSetting, Suite
from benchmarks.shared.network_calls import batch_size, network_calls
from benchmarks.shared.presets import load
from benchmarks.shared.scenes import swapped, unseen_scenes
from renoise import DDIM


def test_the_overhead_of_every_editor_is_measured_at_every_guidance(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[int]] = []

    def overhead(network: torch.nn.Module, work: Callable[[], object]) -> float:
        with network_calls(network, batch_size) as calls, torch.no_grad():
            work()
        batches.append(calls)
        return float(len(batches))

    monkeypatch.setattr(edit_costs, "overhead", overhead)
    model = {"checkpoint": str(tiny_sd), "num_inference_steps": 2}
    suite = Suite(model, {"ddim": InversionSetting(DDIM())}, {"swap": EditorSetting("PromptSwap")})
    scenes = unseen_scenes(3)
    found = overheads(suite, load(model), scenes, swapped(scenes), (1.0, 3.0))
    assert batches == [[3, 3], [6, 6]]
    assert overhead_table(found).splitlines() == [
        "| editing method | at guidance 1 | at guidance 3 |",
        "| --- | --- | --- |",
        "| swap | 1.000 x | 2.000 x |",
    ]
