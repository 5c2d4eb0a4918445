"""What the shipped `data/models/tiny-sdxl` must reach, on fewer images than `tiny_models.judge` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from renoise.data.resizing import time_ids
from renoise.models.loading import load_model
from tiny_models.data import to_pixels
from tiny_models.judge import JUDGE_SEED, SceneJudge, draw_samples
from tiny_models.latents import limit_detail
from tiny_models.scenes import random_scenes


@pytest.fixture(scope="module")
def pipeline(tiny_sdxl: Path) -> StableDiffusionXLPipeline:
    pipeline = load_model(str(tiny_sdxl)).pipeline
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_95_percent_of_its_samples_show_the_right_animal_and_color(
    pipeline: StableDiffusionXLPipeline, tiny_sdxl: Path
) -> None:
    scenes = random_scenes(32, JUDGE_SEED)
    samples = draw_samples(pipeline, [scene.caption for scene in scenes], guidance_scale=3, num_inference_steps=10)
    judge = SceneJudge.from_pretrained(tiny_sdxl.parent / "scene-classifier")
    assert float(judge(samples).right(scenes).all(dim=1).float().mean()) >= 0.95


@pytest.mark.parametrize("timestep", [99, 299])
@torch.no_grad()
def test_it_predicts_best_with_the_true_size_of_the_image(tiny_sdxl: Path, timestep: int) -> None:
    """In training, images from small originals were blurred, and their time ids gave the size of the original."""
    model, scenes = load_model(str(tiny_sdxl)), random_scenes(16, JUDGE_SEED)
    captions = [scene.caption for scene in scenes]
    alpha = model.pipeline.scheduler.alphas_cumprod[timestep]
    for true, wrong in ((24, 512), (512, 24)):
        latents = model.encode_images(to_pixels(limit_detail(scene.draw(), true) for scene in scenes).float() / 255)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        errors = {}
        for side in (true, wrong):
            sizes = torch.tensor([time_ids(side, side, (64, 64))] * len(scenes), dtype=torch.float32)
            prediction = model.predict(noisy, timestep, model.encode_prompts(captions, time_ids=sizes))
            errors[side] = float((prediction - noise).square().mean())
        assert errors[true] < errors[wrong]
