from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shared.presets import load, only_editor, read_tiny
from renoise import InputError, ReNoise

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_tiny_preset_has_the_settings_of_the_preset_with_the_shipped_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    model = read_tiny("lcm_lora")
    assert (model["checkpoint"], model["lora"]) == ("data/models/tiny-sd", "data/models/tiny-lcm-lora")
    pipeline = load(model)
    assert [step.timestep for step in pipeline.schedule] == [999, 749, 499, 249]
    assert not pipeline.schedule.is_stochastic
    assert isinstance(pipeline.inversion, ReNoise)
    assert pipeline.inversion.init_args["iterations"] == 7


def test_the_only_editor_of_a_configuration_is_found() -> None:
    assert only_editor(read_tiny("sdxl_turbo"))["init_args"]["guidance_scale"] == 1.0
    assert only_editor({"editors": [{"class_path": "PromptSwap"}]}) == {"class_path": "PromptSwap", "init_args": {}}
    with pytest.raises(InputError, match=r"model\.editors must have exactly one editor to be measured, got 0"):
        only_editor({"editors": []})
