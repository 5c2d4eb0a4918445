"""What the shipped four-step models must reach, on fewer images than `tiny_models.judge` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, EulerAncestralDiscreteScheduler
from safetensors.torch import load_file

from renoise.models.loading import load_model
from renoise.models.lora import DEFAULT_FILE
from renoise.models.schedulers import replace_scheduler
from tiny_models.judge import JUDGE_SEED, SceneJudge, draw_samples
from tiny_models.scenes import random_scenes
from tiny_models.teacher_pairs import generate_pairs, load_ddim

SCENES = random_scenes(64, JUDGE_SEED)


def share_right(pipeline: DiffusionPipeline, models: Path) -> float:
    """Returns the share of four-step samples without guidance that show the right animal and color."""
    pipeline.set_progress_bar_config(disable=True)
    samples = draw_samples(pipeline, [scene.caption for scene in SCENES], guidance_scale=1, num_inference_steps=4)
    right = SceneJudge.from_pretrained(models / "scene-classifier")(samples).right(SCENES)
    return float(right.all(dim=1).float().mean())


def test_95_percent_of_the_turbo_models_four_step_samples_match_their_prompts(tiny_sd: Path) -> None:
    pipeline = load_model(str(tiny_sd.parent / "tiny-sdxl-turbo")).pipeline
    assert isinstance(pipeline.scheduler, EulerAncestralDiscreteScheduler)
    assert share_right(pipeline, tiny_sd.parent) >= 0.95


@pytest.mark.parametrize("sampler", ["DDIMScheduler", "LCMScheduler"])
def test_95_percent_of_four_step_samples_with_the_lora_match_their_prompts(tiny_sd: Path, sampler: str) -> None:
    pipeline = load_model(str(tiny_sd), str(tiny_sd.parent / "tiny-lcm-lora")).pipeline
    scheduler = replace_scheduler(pipeline.scheduler, sampler, {"timestep_spacing": "trailing"})
    pipeline.register_modules(scheduler=scheduler)
    assert share_right(pipeline, tiny_sd.parent) >= 0.95


def test_with_the_lora_four_steps_are_closer_to_the_teachers_twenty_steps(tiny_sd: Path) -> None:
    """From the same noise. The teacher has guidance, the student has none."""
    expected = generate_pairs(load_ddim(tiny_sd, 20, 3.0), 8, JUDGE_SEED)["latents"]
    errors = [
        (generate_pairs(load_ddim(tiny_sd, 4, 1.0, lora), 8, JUDGE_SEED)["latents"] - expected).square().mean()
        for lora in (None, tiny_sd.parent / "tiny-lcm-lora")
    ]
    assert errors[1] < 0.7 * errors[0]


def test_the_lora_is_in_half_precision_and_changes_only_the_unet(tiny_sd: Path) -> None:
    weights = load_file(tiny_sd.parent / "tiny-lcm-lora" / DEFAULT_FILE)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert {name.split(".")[0] for name in weights} == {"unet"}


def test_all_shipped_models_together_have_at_most_66_megabytes(tiny_sd: Path) -> None:
    assert sum(path.stat().st_size for path in tiny_sd.parent.rglob("*") if path.is_file()) <= 66e6
