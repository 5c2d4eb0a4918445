from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from renoise_plugins.null_text import NullText

import renoise
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.latent_consistency import LatentConsistency
from renoise.models.loading import load_model, wrap_pipeline

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]


def with_guidance_input(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Gives a pipeline a UNet with random weights that takes the guidance scale, as full LCM distillations do."""
    torch.manual_seed(0)
    pipeline.unet = UNet2DConditionModel.from_config(pipeline.unet.config, time_cond_proj_dim=64).eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(torch.float32)


@pytest.fixture(scope="module")
def distilled(tiny_sd: Path) -> StableDiffusionPipeline:
    return with_guidance_input(StableDiffusionPipeline.from_pretrained(tiny_sd))


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def sampled(pipeline: DiffusionPipeline, noise: torch.Tensor, guidance_scale: float, steps: int) -> torch.Tensor:
    model = wrap_pipeline(pipeline)
    conditioning = model.encode_prompts(PROMPTS, guidance_scale)
    assert conditioning.nfe == 1, "the guidance scale is an input, so there is one branch"
    with torch.no_grad():
        return sample(model, Inversion(noise, Schedule.from_scheduler(model.scheduler, steps), conditioning))


@pytest.mark.parametrize("guidance_scale", [1.0, 8.0])
def test_a_network_that_takes_the_guidance_scale_samples_as_in_diffusers_own_pipeline(
    distilled: StableDiffusionPipeline, noise: torch.Tensor, guidance_scale: float
) -> None:
    expected = distilled(
        PROMPTS, latents=noise, num_inference_steps=3, guidance_scale=guidance_scale, output_type="latent"
    ).images
    found = sampled(distilled, noise, guidance_scale, steps=3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    other = sampled(distilled, noise, guidance_scale + 1, steps=3)
    assert not torch.allclose(found, other, rtol=1e-2, atol=1e-2)


def test_so_does_one_of_sdxl(tiny_sdxl: Path, noise: torch.Tensor) -> None:
    pipeline = with_guidance_input(StableDiffusionXLPipeline.from_pretrained(tiny_sdxl))
    expected = pipeline(PROMPTS, latents=noise, num_inference_steps=2, guidance_scale=8.0, output_type="latent").images
    torch.testing.assert_close(sampled(pipeline, noise, 8.0, steps=2), expected, rtol=1e-4, atol=1e-4)


def test_branches_with_several_guidance_scales_are_predicted_as_each_alone(
    distilled: StableDiffusionPipeline, noise: torch.Tensor
) -> None:
    model = wrap_pipeline(distilled)
    branches = [model.encode_prompts(PROMPTS, scale) for scale in (1.0, 8.0)]
    with torch.no_grad():
        together = model.predict_branches([noise, noise], 500, branches)
        alone = [model.predict(noise, 500, branch) for branch in branches]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_saved_latent_consistency_pipeline_is_loaded_and_samples_as_in_diffusers(
    distilled: StableDiffusionPipeline, noise: torch.Tensor, tmp_path: Path
) -> None:
    parts = distilled.components | {"scheduler": LCMScheduler.from_config(distilled.scheduler.config)}
    LatentConsistencyModelPipeline(**parts, requires_safety_checker=False).save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert type(model) is LatentConsistency
    model.pipeline.set_progress_bar_config(disable=True)
    expected = model.pipeline(
        PROMPTS, latents=noise, num_inference_steps=1, guidance_scale=8.0, output_type="latent"
    ).images
    torch.testing.assert_close(sampled(model.pipeline, noise, 8.0, steps=1), expected, rtol=1e-4, atol=1e-4)


def test_methods_that_need_an_unconditional_branch_say_so(distilled: StableDiffusionPipeline) -> None:
    model = wrap_pipeline(distilled)
    schedule = Schedule.from_scheduler(model.scheduler, 2)
    with pytest.raises(ValueError, match=r"^NullTextInversion needs an unconditional branch, and this network takes"):
        renoise.NullTextInversion().check(model, schedule, guidance_scale=2.0)
    with pytest.raises(ValueError, match=r"^NullText needs an unconditional branch, and this network takes"):
        NullText(guidance_scale=2.0).check(model, schedule)
