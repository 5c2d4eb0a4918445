from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.loading import load_model
from renoise.models.sdxl import StableDiffusionXL

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
SIZES = [(40, 50), (3, 4), (64, 64)]
"""Original size, crop, target size, as diffusers' pipeline takes them: not the defaults."""


@pytest.fixture(scope="module")
def model(tiny_sdxl: Path) -> StableDiffusionXL:
    model = load_model(str(tiny_sdxl))
    assert isinstance(model, StableDiffusionXL)
    return model


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def drawn_by_diffusers(pipeline: StableDiffusionXLPipeline, noise: torch.Tensor, **options: object) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    latents: torch.Tensor = pipeline(
        PROMPTS, latents=noise.clone(), num_inference_steps=3, output_type="latent", **options
    ).images
    return latents


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("negative", [None, ["a frog on a plain red background", ""]])
def test_sampling_gives_the_same_latents_as_diffusers_own_pipeline(
    model: StableDiffusionXL, noise: torch.Tensor, guidance_scale: float, negative: list[str] | None
) -> None:
    expected = drawn_by_diffusers(
        model.pipeline,
        noise,
        guidance_scale=guidance_scale,
        negative_prompt=negative,
        original_size=SIZES[0],
        crops_coords_top_left=SIZES[1],
        target_size=SIZES[2],
    )
    time_ids = torch.tensor([[number for pair in SIZES for number in pair]] * 2, dtype=torch.float32)
    conditioning = model.encode_prompts(PROMPTS, guidance_scale, negative, time_ids)
    found = sample(model, Inversion(noise, Schedule.from_scheduler(model.scheduler, 3), conditioning))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_without_time_ids_images_have_the_checkpoints_own_size_uncropped(
    model: StableDiffusionXL, noise: torch.Tensor
) -> None:
    conditioning = model.encode_prompts(PROMPTS)
    assert conditioning.time_ids is not None
    assert conditioning.time_ids.tolist() == [[64, 64, 0, 0, 64, 64]] * 2
    found = sample(model, Inversion(noise, Schedule.from_scheduler(model.scheduler, 3), conditioning))
    torch.testing.assert_close(
        found, drawn_by_diffusers(model.pipeline, noise, guidance_scale=1.0), rtol=1e-4, atol=1e-4
    )


def test_select_takes_every_part_of_the_conditioning(model: StableDiffusionXL) -> None:
    both = model.encode_prompts(PROMPTS, 2.0, time_ids=torch.arange(12.0).reshape(2, 6))
    second = both.select(torch.tensor([1, 1]))
    for name in ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "time_ids"):
        torch.testing.assert_close(getattr(second, name), getattr(both, name)[[1, 1]])
    assert second.guidance_scale == 2.0


def test_the_original_size_of_an_image_changes_the_prediction(model: StableDiffusionXL, noise: torch.Tensor) -> None:
    plain = model.encode_prompts(PROMPTS)
    small = model.encode_prompts(PROMPTS, time_ids=torch.tensor([[24.0, 24, 0, 0, 64, 64]] * 2))
    with torch.no_grad():
        difference = model.predict(noise, 499, plain) - model.predict(noise, 499, small)
    assert difference.abs().max() > 1e-3


def test_the_autoencoder_works_in_float32_where_the_networks_run_in_half_precision(tiny_sdxl: Path) -> None:
    model = load_model(str(tiny_sdxl)).half()
    images = torch.rand(1, 3, 64, 64)
    latents = model.encode_images(images)
    assert latents.dtype == torch.float32
    assert next(model.vae.parameters()).dtype == torch.float32
    assert next(model.network.parameters()).dtype == torch.float16
    exact = load_model(str(tiny_sdxl))
    torch.testing.assert_close(latents, exact.encode_images(images), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(model.decode_latents(latents), exact.decode_latents(latents), rtol=1e-2, atol=1e-2)


def test_the_autoencoder_works_in_float32_under_half_precision_autocast(model: StableDiffusionXL) -> None:
    seen = []
    hook = model.pipeline.vae.decoder.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        model.decode_latents(torch.zeros(1, 4, 16, 16))
    hook.remove()
    assert seen == [torch.float32]
