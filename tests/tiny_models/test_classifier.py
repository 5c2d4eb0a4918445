from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny_models.classifier import degrade
from tiny_models.data import to_pixels
from tiny_models.judge import SceneJudge, Verdict
from tiny_models.scenes import Scene, random_scenes

SHIPPED = Path(__file__).parents[2] / "data/models/scene-classifier"


@pytest.fixture(scope="module")
def judge() -> SceneJudge:
    return SceneJudge.from_pretrained(SHIPPED)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return random_scenes(128, seed=5)


@pytest.fixture(scope="module")
def images(scenes: list[Scene]) -> torch.Tensor:
    return to_pixels(scene.draw() for scene in scenes) / 255


def test_unseen_scenes_are_classified_correctly(judge: SceneJudge, scenes: list[Scene], images: torch.Tensor) -> None:
    assert judge(images).right(scenes).float().mean(0).min() >= 0.99


def test_degraded_scenes_are_classified_correctly(judge: SceneJudge, scenes: list[Scene], images: torch.Tensor) -> None:
    degraded = degrade(2 * images - 1, torch.Generator().manual_seed(0)) / 2 + 0.5
    assert not torch.allclose(degraded, images, atol=0.05)
    assert judge(degraded).right(scenes).float().mean(0).min() >= 0.98


def test_noise_is_classified_at_chance_level(judge: SceneJudge, scenes: list[Scene], images: torch.Tensor) -> None:
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    assert judge(noise).right(scenes).float().mean(0).max() < 0.3


def test_the_verdict_on_an_image_does_not_depend_on_the_batch(judge: SceneJudge, images: torch.Tensor) -> None:
    verdict = judge(images[:8])
    assert isinstance(verdict, Verdict)
    assert verdict.subjects.dtype == verdict.colors.dtype == torch.int64
    for position in range(8):
        alone = judge(images[position : position + 1])
        assert torch.stack(tuple(alone)).tolist() == [[classes[position]] for classes in verdict]


def test_the_shipped_classifier_is_in_half_precision_and_below_one_megabyte() -> None:
    path = SHIPPED / "model.safetensors"
    assert path.stat().st_size < 1_000_000
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16, torch.int64}


def test_degraded_images_are_repeatable_and_stay_in_range(images: torch.Tensor) -> None:
    first, second = (degrade(2 * images[:4] - 1, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (4, 3, 64, 64)
    assert first.abs().max() <= 1
