from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.edits import PROMPTS
from helpers.pix2pix_zero import direction_by_sentence, load_tiny
from renoise_plugins.pix2pix_zero.direction import (
    SENTENCES_PER_CALL,
    TEMPLATES,
    Direction,
    add_directions,
    read_bank,
)

from renoise.models.base import DiffusionModel

SOURCE, TARGET = ["a cat", "a photo of a cat", "the cat sits"], ["a dog", "one dog"]


@pytest.fixture(scope="module", params=["tiny-sd", "tiny-sdxl"])
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    return load_tiny(request.param)


def test_a_direction_is_the_mean_difference_of_two_banks(model: DiffusionModel) -> None:
    direction = Direction.between(model, SOURCE, TARGET)
    expected = direction_by_sentence(model, SOURCE, TARGET, "prompt_embeds")
    torch.testing.assert_close(direction.embeds, expected, rtol=1e-4, atol=1e-5)
    if model.pipeline_class == "StableDiffusionPipeline":
        assert direction.pooled is None
    else:
        assert direction.pooled is not None
        expected = direction_by_sentence(model, SOURCE, TARGET, "pooled_prompt_embeds")
        torch.testing.assert_close(direction.pooled, expected, rtol=1e-4, atol=1e-5)


def test_a_bank_may_have_more_sentences_than_are_encoded_at_once() -> None:
    model = load_tiny("tiny-sd")
    many = [f"a cat number {number}" for number in range(SENTENCES_PER_CALL + 3)]
    direction = Direction.between(model, many, TARGET)
    expected = direction_by_sentence(model, many, TARGET, "prompt_embeds")
    torch.testing.assert_close(direction.embeds, expected, rtol=1e-4, atol=1e-5)


def test_directions_add_up(model: DiffusionModel) -> None:
    there, back = Direction.between(model, SOURCE, TARGET), Direction.between(model, TARGET, SOURCE)
    onward, whole = Direction.between(model, TARGET, ["a frog"]), Direction.between(model, SOURCE, ["a frog"])
    for field in ("embeds", "pooled"):
        zero, total, expected = (getattr(direction, field) for direction in (there + back, there + onward, whole))
        if expected is None:
            assert zero is total is None
            continue
        torch.testing.assert_close(zero, torch.zeros_like(zero))
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)


def test_each_prompt_moves_along_its_own_direction_and_the_unconditional_branch_stays(model: DiffusionModel) -> None:
    before = model.encode_prompts(PROMPTS, 3.0)
    directions = [Direction.between(model, SOURCE, TARGET), Direction.between(model, TARGET, ["a frog"])]
    after = add_directions(before, directions)
    assert torch.equal(after.unconditional.prompt_embeds, before.unconditional.prompt_embeds)
    for image, direction in enumerate(directions):
        assert torch.equal(after.prompt_embeds[image], before.prompt_embeds[image] + direction.embeds)
        if direction.pooled is not None:
            assert after.pooled_prompt_embeds is not None
            assert before.pooled_prompt_embeds is not None
            expected = before.pooled_prompt_embeds[image] + direction.pooled
            assert torch.equal(after.pooled_prompt_embeds[image], expected)
            assert torch.equal(after.negative_pooled_prompt_embeds, before.negative_pooled_prompt_embeds)


def test_a_bank_has_one_sentence_per_line(tmp_path: Path) -> None:
    path = tmp_path / "cats.txt"
    path.write_text("\n  a cat on a café table  \r\n\n\tthe cat\n", encoding="utf-8")
    assert read_bank(path, "source_sentences") == ["a cat on a café table", "the cat"]


def test_the_shipped_templates_have_one_placeholder_each_and_are_distinct() -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES)
    assert len(set(TEMPLATES)) == len(TEMPLATES)
