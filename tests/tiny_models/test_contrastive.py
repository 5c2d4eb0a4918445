from __future__ import annotations

import math

import pytest
import torch

from tiny_models.contrastive import (
    HELD_OUT,
    ContrastiveDataModule,
    build_processor,
    contrastive_loss,
    held_out_scenes,
)
from tiny_models.scenes import COLORS, PATTERNS, SUBJECTS, Scene


def kind(scene: Scene) -> tuple[str, str, str]:
    return scene.subject, scene.color, scene.pattern


def test_64_captions_are_held_out_and_each_of_their_words_is_trained_in_others() -> None:
    assert len(set(HELD_OUT)) == 64
    for position, words in enumerate((SUBJECTS, COLORS, PATTERNS)):
        count_of_each = len(SUBJECTS) * len(COLORS) * len(PATTERNS) / len(words)
        held_out = [each[position] for each in HELD_OUT]
        assert set(held_out) <= set(words)
        assert max(held_out.count(word) for word in words) < count_of_each / 2


def test_held_out_scenes_show_each_caption_once_before_the_first_again() -> None:
    scenes = held_out_scenes(65, seed=3)
    assert [kind(scene) for scene in scenes] == [*HELD_OUT, HELD_OUT[0]]
    assert scenes == held_out_scenes(65, seed=3)
    assert scenes[0] != scenes[64], "another scene of the same caption"


def test_no_training_scene_has_a_held_out_caption_and_all_validation_scenes_have_one() -> None:
    data = ContrastiveDataModule(scenes=400, validation_scenes=70)
    data.setup("fit")
    decode = data.tokenizer.batch_decode
    captions = {scene.caption for scene in held_out_scenes(64, seed=0)}
    trained = decode([tokens for _, tokens in data.training_set], skip_special_tokens=True)
    assert 320 < len(trained) < 380
    assert not captions & {caption.strip() for caption in trained}
    pixels, tokens = next(iter(data.val_dataloader()))
    assert pixels.shape == (64, 3, 64, 64)
    assert {caption.strip() for caption in decode(tokens, skip_special_tokens=True)} == captions


def test_the_loss_of_different_captions_is_that_of_clip() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    rows = math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2.5))
    columns = math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(-4))
    loss = contrastive_loss(logits, torch.tensor([[1, 2], [1, 3]]))
    assert loss.item() == pytest.approx((rows + columns) / 4)


def test_an_equal_caption_is_not_a_negative() -> None:
    """Images 0 and 1 have the same caption, so their best logits are equal, and only caption 2 has to be far."""
    tokens = torch.tensor([[1, 2], [1, 2], [1, 3]])
    best = torch.tensor([[0.0, 0.0, -50.0], [0.0, 0.0, -50.0], [-50.0, -50.0, 0.0]], requires_grad=True)
    loss = contrastive_loss(best, tokens)
    (gradient,) = torch.autograd.grad(loss, best)
    assert loss.item() == pytest.approx(2 / 3 * math.log(2)), "the entropy of two right captions"
    assert gradient.abs().max() < 1e-6


def test_the_processors_pixels_are_the_images_in_minus_1_to_1() -> None:
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = build_processor()(images=list(pixels), text=["a cat"] * 2, return_tensors="pt")
    torch.testing.assert_close(inputs.pixel_values, pixels / 127.5 - 1, atol=1e-6, rtol=0)
