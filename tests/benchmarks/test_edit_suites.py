from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.ablation import Preset
from benchmarks.edit_settings import GUIDANCE, Suite
from benchmarks.edit_suites import SUITES, TURBO
from renoise.editing.base import check_needs

REPOSITORY = Path(__file__).resolve().parents[2]
each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


@each_suite
def test_every_editor_of_a_suite_serves_its_model(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    model, schedule = suite.load()
    assert len(schedule) == suite.num_inference_steps
    for setting in suite.editor_settings().values():
        for guidance in GUIDANCE:
            editor = setting.make(guidance)
            check_needs(editor, model, schedule)
            assert vars(editor)["guidance_scale"] == guidance
        json.dumps(dict(setting.init_args))


@each_suite
def test_names_tell_settings_apart(suite: Suite) -> None:
    for editor in suite.editors.values():
        assert set(editor.inversions or ()) <= set(suite.inversions)
    settings = [repr(setting) for setting in (*suite.inversions.values(), *suite.editors.values())]
    assert len(set(settings)) == len(settings)
    assert [other.name for other in SUITES].count(suite.name) == 1


def test_turbo_is_measured_with_the_whole_preset() -> None:
    preset = Preset.read(REPOSITORY / "configs/tiny/sdxl_turbo.yaml")
    assert asdict(preset.method) == {
        name: value for name, value in asdict(TURBO).items() if name in asdict(preset.method)
    }
