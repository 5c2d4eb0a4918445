"""What the shipped `data/models/tiny-sd` must reach, on fewer images than `tiny_models.judge` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors import safe_open

from tiny_models.data import to_pixels
from tiny_models.judge import JUDGE_SEED, SceneJudge, draw_samples, round_trip_psnr
from tiny_models.scenes import random_scenes


def test_it_is_in_half_precision_and_has_at_most_14_megabytes(tiny_sd: Path) -> None:
    files = [path for path in tiny_sd.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 14e6
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 3
    for path in weights:
        with safe_open(path, "pt") as tensors:
            dtypes = {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118
        assert dtypes <= {torch.float16, torch.int64}


def test_its_autoencoder_reaches_29_decibels_on_unseen_scenes(tiny_sd: Path) -> None:
    vae = AutoencoderKL.from_pretrained(tiny_sd, subfolder="vae").float()
    scenes = random_scenes(64, JUDGE_SEED)
    assert round_trip_psnr(vae, to_pixels(scene.draw() for scene in scenes).float() / 255) >= 29


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_95_percent_of_its_samples_show_the_right_animal_and_color(
    pipeline: StableDiffusionPipeline, tiny_sd: Path
) -> None:
    scenes = random_scenes(32, JUDGE_SEED)
    samples = draw_samples(pipeline, [scene.caption for scene in scenes], guidance_scale=3, num_inference_steps=12)
    judge = SceneJudge.from_pretrained(tiny_sd.parent / "scene-classifier")
    assert float(judge(samples).right(scenes).all(dim=1).float().mean()) >= 0.95
