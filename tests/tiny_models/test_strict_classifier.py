from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import renoise
from tiny_models.classifier import split_logits
from tiny_models.data import SwappedScenesDataModule, labels, to_pixels
from tiny_models.judge import SceneJudge
from tiny_models.scenes import Scene, random_scenes, with_other_subjects
from tiny_models.strict_classifier import mix_animals, soften

SHIPPED = Path(__file__).parents[2] / "data/models/strict-classifier"
SCENES = random_scenes(128, seed=5)
OTHERS = with_other_subjects(SCENES, seed=6)


def images_of(scenes: list[Scene]) -> torch.Tensor:
    """In [-1, 1]."""
    return to_pixels(scene.draw() for scene in scenes) / 127.5 - 1


@pytest.fixture(scope="module")
def judge() -> SceneJudge:
    return SceneJudge.from_pretrained(SHIPPED)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return images_of(SCENES)


@pytest.fixture(scope="module")
def others() -> torch.Tensor:
    return images_of(OTHERS)


def test_unseen_scenes_are_named_also_after_the_autoencoders_round_trip(
    judge: SceneJudge, images: torch.Tensor, tiny_sd: Path
) -> None:
    assert judge(images / 2 + 0.5).right(SCENES).float().mean(0).min() >= 0.99
    model = renoise.load(tiny_sd).model
    with torch.no_grad():
        decoded = model.decode_latents(model.encode_images(images / 2 + 0.5))
    assert judge(decoded).right(SCENES).float().mean(0).min() >= 0.99


def test_the_probability_of_an_animal_is_its_share_of_a_mixed_image(
    judge: SceneJudge, images: torch.Tensor, others: torch.Tensor
) -> None:
    mixed, share = mix_animals(images, others, torch.Generator().manual_seed(0))
    with torch.no_grad():
        subjects, _ = split_logits(judge.network(mixed).logits)
    found = subjects.softmax(1).gather(1, labels(SCENES)[:, :1])[:, 0]
    partly = share < 1
    assert partly.sum() > 40
    error = (found - share)[partly]
    assert error.abs().mean() < 0.15
    assert error.square().mean() < 0.35 * share[partly].var()


def test_half_an_animal_is_no_animal(judge: SceneJudge, images: torch.Tensor, others: torch.Tensor) -> None:
    subjects = judge((images + others) / 4 + 0.5).subjects
    assert (subjects == -1).float().mean() > 0.9
    noise = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (judge(noise).subjects == -1).float().mean() > 0.7


def test_a_judge_without_confidence_names_the_most_probable_animal(judge: SceneJudge, images: torch.Tensor) -> None:
    frank = SceneJudge.from_pretrained(SHIPPED)
    frank.confidence = 0.0
    noise = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert frank(noise).subjects.min() >= 0
    assert torch.equal(frank(noise).colors, judge(noise).colors), "confidence is about subjects"


def test_a_mixed_image_lies_between_two_and_its_share_says_where(images: torch.Tensor, others: torch.Tensor) -> None:
    mixed, share = mix_animals(images, others, torch.Generator().manual_seed(0))
    lower, upper = torch.minimum(images, others), torch.maximum(images, others)
    assert ((mixed >= lower - 1e-5) & (mixed <= upper + 1e-5)).all()
    torch.testing.assert_close((mixed - others).abs().mean((1, 2, 3)), share * (images - others).abs().mean((1, 2, 3)))
    whole = share == 1
    assert 0.3 < whole.float().mean() < 0.7
    assert torch.equal(mixed[whole], images[whole])


def test_soft_images_are_repeatable_stay_in_range_and_differ_a_little(images: torch.Tensor) -> None:
    first, second = (soften(images[:4], torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.abs().max() <= 1
    assert 0.01 < (first - images[:4]).abs().mean() < 0.15


def test_a_batch_holds_scenes_and_the_same_with_other_animals() -> None:
    data = SwappedScenesDataModule(scenes=4, validation_scenes=2, batch_size=4)
    data.setup("fit")
    pixels, targets, swapped, other_targets = next(iter(data.train_dataloader()))
    assert (targets[:, 0] != other_targets[:, 0]).all()
    assert torch.equal(targets[:, 1], other_targets[:, 1])
    assert torch.equal(pixels[:, :, 0], swapped[:, :, 0]), "the top rows are background"
    assert not torch.equal(pixels, swapped)


def test_the_shipped_classifier_is_in_half_precision_and_below_one_megabyte() -> None:
    path = SHIPPED / "model.safetensors"
    assert path.stat().st_size < 1_000_000
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
