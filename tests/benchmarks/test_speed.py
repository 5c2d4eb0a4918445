from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed
from benchmarks.shared import full_size
from benchmarks.shared.presets import tiny_presets
from benchmarks.speed import PLAIN, full_size_rows, tiny_rows

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def test_plain_renoising_takes_little_more_time_than_its_network_calls() -> None:
    one, four = tiny_rows(PLAIN, batches=(1, 4), steps=3, repeats=3)
    assert (one["batch"], four["batch"]) == (1, 4)
    assert one["steps"] == 3
    assert one["NFE"] == four["NFE"] == 6, "K = 1 calls the network twice at every step"
    assert one["latents"] == "16×16"
    assert 0.8 < four["over its network calls"] < 1.3
    assert four["images per second"] > one["images per second"] > 0
    assert 100 < one["peak MiB"] < 8000


@pytest.mark.parametrize("preset", ["sd14", "sdxl"])
def test_a_preset_runs_on_a_random_network_of_its_family(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"sample_size": 8, "block_out_channels": (32, 32, 32, 32), "cross_attention_dim": 16}
    sdxl = {**full_size.FAMILIES["sdxl"]["unet"], "sample_size": 8, "block_out_channels": (32, 32, 32)}
    sdxl |= {"attention_head_dim": 4, "transformer_layers_per_block": 1}
    families = {"sd15": {"unet": small, "text_encoders": []}, "sdxl": {"unet": sdxl, "text_encoders": []}}
    for module in (full_size, speed):
        monkeypatch.setattr(module, "FAMILIES", families)
    (row,) = full_size_rows(preset, [2], steps=2, repeats=1, device="cpu")
    assert (row["latents"], row["steps"], row["batch"]) == ("8×8", 2, 2)
    assert row["NFE"] > 0


def test_every_preset_is_measured_and_the_page_gets_the_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured: list[tuple[Any, ...]] = []

    def record(function: Callable[..., Any], preset: str, batches: Any, steps: Any, *more: Any) -> list[dict[str, Any]]:
        measured.append((preset, list(batches), steps, more[1:]))
        return [{"preset": preset, "images per second": 12.345}]

    page = tmp_path / "page.md"
    names = (speed.OWN, speed.LARGE, speed.GPU)
    page.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in names))
    monkeypatch.setattr(speed, "in_own_process", record)
    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: False)
    speed.main(batches=(1, 2), page=page)
    presets = [PLAIN, *tiny_presets()]
    own, large = measured[: len(presets)], measured[len(presets) :]
    assert own == [(name, [1, 2], None, ()) for name in presets]
    assert large == [(name, [2], 4, (64,)) for name in presets]
    assert page.read_text().count("| sdxl_turbo | 12.3 |") == 2


def test_presets_are_those_with_an_overlay() -> None:
    assert {"sd14", "sdxl", "sdxl_turbo", "lcm_lora"} <= set(tiny_presets())
    assert "captioned" not in tiny_presets(), "a configuration of its own"
