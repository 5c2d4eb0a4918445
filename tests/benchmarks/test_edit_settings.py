from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentError

from benchmarks.edit_settings import EditorSetting, InversionSetting, Suite
from benchmarks.evaluation import UNSEEN_SEED
from renoise.errors import InputError
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)


def test_an_editor_is_read_from_a_configuration_with_some_options_replaced(tmp_path: Path) -> None:
    (tmp_path / "edit.yaml").write_text(
        "strength: 0.5\n"
        "model:\n"
        "  num_inference_steps: 50\n"
        "  editors: [{class_path: PromptSwap, init_args: {guidance_scale: 2.5, strength: '${strength}'}}]\n"
    )
    read = EditorSetting.read("edit", {}, ("ddim",), tmp_path)
    assert read == EditorSetting("PromptSwap", {"guidance_scale": 2.5, "strength": 0.5}, ("ddim",))
    replaced = EditorSetting.read("edit", {"strength": 1.0}, None, tmp_path)
    editor = replaced.make(3.0)
    assert vars(editor)["strength"] == 1.0
    assert vars(editor)["guidance_scale"] == 3.0
    (tmp_path / "none.yaml").write_text("model: {editors: []}\n")
    with pytest.raises(InputError, match=r"must have one of model.editors to be measured, got 0"):
        EditorSetting.read("none", {}, ("ddim",), tmp_path)


def test_an_editor_that_is_not_installed_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"there is no editor 'Nothing'; there are .*PromptSwap"):
        EditorSetting("Nothing").make(1.0)


def test_inversions_are_shared_by_guidances_unless_each_needs_its_own() -> None:
    shared, own = InversionSetting("ddim"), InversionSetting("ddim", per_guidance=True)
    assert shared.at(2.0) is shared
    found = own.at(2.0)
    assert found is not None
    assert found.guidance_scale == 2.0
    assert own.at(1.0) is None


def test_scenes_are_inverted_under_their_captions_with_every_level(tiny_sd: Path) -> None:
    suite = Suite("small", str(tiny_sd), "DDIMScheduler", 2, {}, {})
    model, schedule = suite.load()
    inversion = InversionSetting("renoise", 1).invert(model, schedule, SCENES)
    assert inversion.nfe.tolist() == [4, 4]
    assert inversion.trajectory is not None
    assert len(inversion.trajectory) == 3
    own = model.encode_prompts([scene.caption for scene in SCENES]).prompt_embeds
    torch.testing.assert_close(inversion.conditioning.prompt_embeds, own)
    guided = InversionSetting("ddim", guidance_scale=2.0).invert(model, schedule, SCENES)
    assert guided.nfe.tolist() == [4, 4]


def test_options_are_read_as_the_command_line_reads_them() -> None:
    with pytest.raises(ArgumentError, match="strength"):
        EditorSetting("PromptSwap", {"strength": "half"}).make(1.0)
    assert vars(EditorSetting("PromptSwap", {"strength": "0.5"}).make(1.0))["strength"] == 0.5
