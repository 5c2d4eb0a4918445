from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.edit_costs import GUIDED, overheads
from benchmarks.edit_settings import EditorSetting, InversionSetting, Suite
from benchmarks.evaluation import SWAP_SEED, UNSEEN_SEED
from benchmarks.inversion_benchmark import peak_memory
from benchmarks import edit_costs, inversion_benchmark as benchmark
from renoise.outputs.manifest import Manifest
from tiny_models.scenes import random_scenes, with_other_subjects

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_overhead_is_measured_at_the_lowest_guidance_and_the_highest(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[int]] = []

    def overhead(network: torch.nn.Module, work: Callable[[], object], repeats: int) -> float:
        rows: list[int] = []
        with torch.no_grad():
            handle = network.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
            work()
            handle.remove()
        batches.append(rows)
        return float(len(batches))

    monkeypatch.setattr(edit_costs, "overhead", overhead)
    suite = Suite(
        "small",
        str(tiny_sd),
        "DDIMScheduler",
        2,
        {"a": InversionSetting("ddim")},
        {"swap": EditorSetting("PromptSwap")},
    )
    scenes = random_scenes(3, UNSEEN_SEED)
    found = dict(overheads(suite, *suite.load(), scenes, with_other_subjects(scenes, SWAP_SEED)))
    assert found == {"swap": (1.0, 2.0)}
    assert batches == [[3, 3], [6, 6]]


def test_memory_is_measured_on_images_that_are_each_edited_in_a_direction_of_its_own(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Folder:
        def __enter__(self) -> str:
            return str(tmp_path)

        def __exit__(self, *_: object) -> None:
            """Is looked at below."""

    monkeypatch.setattr(benchmark.tempfile, "TemporaryDirectory", Folder)
    monkeypatch.chdir(REPOSITORY)
    assert peak_memory(str(tiny_sd), 2, GUIDED) > 0
    rows = Manifest(tmp_path / "out").read()
    assert [row["edits"] for row in rows] == [{"Pix2PixZero": "ok"}] * 2
    assert ["thing0" in rows[0]["edit_prompt"], "thing1" in rows[1]["edit_prompt"]] == [True, True]
