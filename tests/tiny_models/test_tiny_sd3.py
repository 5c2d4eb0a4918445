"""What the shipped `data/models/tiny-sd3` must reach, on fewer images and steps than `tiny_models.judge` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import renoise
from benchmarks.flow import merge_absent_tokens
from benchmarks.shared.scenes import images_of
from tiny_models.judge import JUDGE_SEED, SceneJudge
from tiny_models.scenes import random_scenes

STEPS = 14


@pytest.fixture(scope="module")
def pipeline(tiny_sd3: Path) -> renoise.InversionPipeline:
    pipeline = renoise.load(tiny_sd3, num_inference_steps=STEPS, guidance_scale=3)
    merge_absent_tokens(pipeline.model)
    return pipeline


@torch.no_grad()
def test_95_percent_of_its_samples_show_the_right_animal_and_color(
    pipeline: renoise.InversionPipeline, tiny_sd3: Path
) -> None:
    scenes = random_scenes(32, JUDGE_SEED)
    noise = torch.randn(len(scenes), 4, 16, 16, generator=torch.Generator().manual_seed(JUDGE_SEED))
    conditioning = pipeline.model.encode_prompts([scene.caption for scene in scenes], 3)
    latents = renoise.sample(pipeline.model, renoise.Inversion(noise, pipeline.schedule, conditioning))
    judge = SceneJudge.from_pretrained(tiny_sd3.parent / "scene-classifier")
    right = judge(pipeline.model.decode_latents(latents)).right(scenes)
    assert float(right.all(dim=1).float().mean()) >= 0.95


@torch.no_grad()
def test_tokens_of_zeros_may_be_computed_as_one(pipeline: renoise.InversionPipeline, tiny_sd3: Path) -> None:
    full = renoise.load(tiny_sd3, num_inference_steps=STEPS).model
    latents, prompts = torch.randn(2, 4, 16, 16), ["a cat on a plain red background", "a dog"]
    expected = full.predict(latents, 700.0, full.encode_prompts(prompts, 3))
    found = pipeline.model.predict(latents, 700.0, pipeline.model.encode_prompts(prompts, 3))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_latents_of_scenes_have_mean_0_and_variance_1(pipeline: renoise.InversionPipeline) -> None:
    latents = pipeline.model.encode_images(images_of(random_scenes(32, JUDGE_SEED)))
    assert abs(latents.mean()) < 0.1
    assert latents.std() == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_a_warm_start_is_more_exact_than_plain_renoising_with_twice_the_calls(
    pipeline: renoise.InversionPipeline,
) -> None:
    scenes = random_scenes(4, JUDGE_SEED)
    latents = pipeline.model.encode_images(images_of(scenes))
    conditioning = pipeline.model.encode_prompts([scene.caption for scene in scenes])
    errors = []
    for method in (renoise.ReNoise(0, warm_start=True), renoise.ReNoise(1)):
        names = [str(number) for number in range(4)]
        inversion = pipeline.invert_latents(latents, conditioning, names=names, inversion=method)
        errors.append(float((renoise.sample(pipeline.model, inversion) - latents).square().mean()))
    assert errors[0] < errors[1] < 1e-2
