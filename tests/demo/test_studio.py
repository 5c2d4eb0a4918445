from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.demo import CAT, MODEL, REPOSITORY, TEXT

from renoise import load
from renoise.demo.samples import samples
from renoise.demo.studio import Studio, shown_path
from renoise.demo.visitor import Visitor
from renoise.one_image.options import ModelOptions


def test_editors_that_take_a_text_can_be_chosen_and_that_of_the_preset_is_first(studio: Studio) -> None:
    names = [choice.name for choice in studio.editors]
    assert names[0] == "PromptSwap"
    assert {"EditFriendly", "NegativePrompt", "PromptToPrompt"} <= set(names)
    assert [choice.option for choice in studio.editors] == [None, *names[1:]]
    assert all(choice.explanation for choice in studio.editors)
    assert studio.editor("EditFriendly").strength == 0.64
    assert studio.editors[0].guidance_scale == 1  # the preset's


def test_editors_whose_needs_the_model_does_not_meet_cannot_be_chosen(tiny_sd: Path) -> None:
    pipeline = load(tiny_sd, preset="sd_fast", num_inference_steps=2)
    names = [choice.name for choice in Studio(ModelOptions("sd_fast", str(tiny_sd), False), pipeline).editors]
    assert "EditFriendly" not in names  # it needs a sampler that draws noise
    assert "NegativePrompt" in names


def test_a_model_is_shown_without_the_folders_above_the_current_one(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert studio.describe() == f"{MODEL}, preset sdxl_turbo_fast, 4 steps, 64×64 pixels, {studio.device}"
    monkeypatch.chdir(REPOSITORY)
    assert shown_path(str(REPOSITORY / MODEL)) == MODEL
    assert shown_path("stabilityai/sdxl-turbo") == "stabilityai/sdxl-turbo"
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(REPOSITORY / MODEL)) == "tiny-sdxl-turbo"


def test_a_miniature_has_samples_that_it_can_draw_and_others_have_photographs() -> None:
    for is_miniature, folder in ((True, "scenes"), (False, "photographs")):
        found = samples(is_miniature)
        assert 4 <= len(found) <= 8
        assert all(sample.path.is_file() and folder in sample.path.parent.name for sample in found)
        assert all(sample.text != sample.edit_text for sample in found)


def test_a_captioner_that_is_at_hand_describes_the_picture(
    studio: Studio, visitor: Visitor, finish: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not studio.has_captioner
    monkeypatch.chdir(tmp_path)
    Path("Salesforce").mkdir()
    Path("Salesforce/blip2-opt-2.7b").symlink_to(REPOSITORY / "data/models/tiny-blip2")
    assert Studio(studio.shown, studio.pipeline).has_captioner
    visitor.open(CAT)
    assert finish(visitor.describe()) == TEXT
