from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.edit_suites import SUITES, EditorSetting, InversionSetting
from benchmarks.edits import GUIDANCE
from benchmarks.shared.pages import check_block
from benchmarks.shared.presets import load
from renoise import DDIM, InputError, Inverter, PromptEditor
from renoise.editing.runner import check_needs

REPOSITORY = Path(__file__).resolve().parents[2]
each_suite = pytest.mark.parametrize("name", SUITES)


@each_suite
def test_every_method_of_a_suite_serves_its_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    suite = SUITES[name]
    pipeline = load(suite.model)
    for inversion in suite.inversions.values():
        inversion.method.check(pipeline.model, pipeline.schedule, inversion.guidance_for(2.0) or 1.0)
    for setting in suite.editors.values():
        for guidance in GUIDANCE:
            editor = setting.make(guidance)
            check_needs(editor, pipeline.model, pipeline.schedule)
            assert editor.init_args["guidance_scale"] == guidance
        json.dumps(dict(setting.init_args))


@each_suite
def test_names_refer_to_different_settings(name: str) -> None:
    suite = SUITES[name]
    for editor in suite.editors.values():
        assert set(editor.inversions or ()) <= set(suite.inversions)
    assert len({repr(editor) for editor in suite.editors.values()}) == len(suite.editors)


@each_suite
def test_every_suite_has_a_place_in_the_page(name: str) -> None:
    for block in (f"edits {name}", f"costs {name}", "memory"):
        check_block(REPOSITORY / "docs/editing.md", block)


def test_an_editor_is_read_from_a_configuration_with_some_options_changed() -> None:
    editor = EditorSetting.of("prompt_swap", ("ddim",), strength=0.5).make(3.0)
    assert isinstance(editor, PromptEditor)
    assert (editor.init_args["strength"], editor.init_args["guidance_scale"]) == (0.5, 3.0)
    with pytest.raises(InputError, match="strength"):
        EditorSetting("PromptSwap", {"strength": "half"}).make(1.0)
    with pytest.raises(InputError, match="Nothing"):
        EditorSetting("Nothing").make(1.0)


def test_one_inversion_serves_edits_at_every_guidance_unless_the_method_needs_guidance() -> None:
    shared, own = InversionSetting(DDIM()), InversionSetting(DDIM(), at_edit_guidance=True)
    assert [shared.guidance_for(guidance) for guidance in (1.0, 2.0)] == [1.0, 1.0]
    assert [own.guidance_for(guidance) for guidance in (1.0, 2.0)] == [None, 2.0]
    assert isinstance(shared.method, Inverter)
