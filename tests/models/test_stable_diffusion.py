from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.shared.scenes import images_of
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from tiny_models.scenes import random_scenes

PROMPTS = ["a cat on a plain red background", "a dog on a striped blue background"]


@torch.no_grad()
def test_images_survive_the_round_trip_through_the_latents(model: DiffusionModel) -> None:
    images = images_of(random_scenes(8, seed=11))
    latents = model.encode_images(images)
    assert latents.shape == (8, 4, 16, 16)
    assert 0.8 < float(latents.std()) < 1.2
    assert float(-10 * (model.decode_latents(latents) - images).square().mean().log10()) > 28


@torch.no_grad()
def test_an_image_is_encoded_to_the_same_latents_every_time(model: DiffusionModel) -> None:
    images = images_of(random_scenes(2, seed=11))
    assert torch.equal(model.encode_images(images), model.encode_images(images))


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 1.5, 3.0])
def test_guidance_mixes_the_two_branches(model: DiffusionModel, guidance_scale: float) -> None:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    conditional = model.predict(latents, 500, model.encode_prompts(PROMPTS))
    unconditional = model.predict(latents, 500, model.encode_prompts(["", ""]))
    conditioning = model.encode_prompts(PROMPTS, guidance_scale)
    expected = unconditional + guidance_scale * (conditional - unconditional)
    torch.testing.assert_close(model.predict(latents, 500, conditioning), expected, rtol=1e-4, atol=1e-4)
    assert conditioning.nfe == (1 if guidance_scale == 1 else 2)


@torch.no_grad()
def test_negative_prompts_take_the_unconditional_branch(model: DiffusionModel) -> None:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    conditioning = model.encode_prompts(PROMPTS, 2.0, negative_prompts=PROMPTS)
    plain = model.predict(latents, 500, model.encode_prompts(PROMPTS))
    torch.testing.assert_close(model.predict(latents, 500, conditioning), plain, rtol=1e-4, atol=1e-4)


def test_state_is_float32_under_half_precision_and_float64_under_double(tiny_sd: Path) -> None:
    model = load_model(str(tiny_sd))
    images = images_of(random_scenes(1, seed=11))
    for dtype, state in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model.to(dtype)
        with torch.no_grad():
            latents = model.encode_images(images)
            prediction = model.predict(latents, 500, model.encode_prompts(PROMPTS[:1]))
        assert latents.dtype == prediction.dtype == state


def test_a_prompt_that_fits_is_not_cut(model: DiffusionModel) -> None:
    assert model.split_prompt(PROMPTS[0]) == (PROMPTS[0], "")


@settings(deadline=None, max_examples=50)
@given(prompt=st.text(st.characters(codec="utf-8"), max_size=80))
def test_a_long_prompt_is_cut_to_what_the_encoder_takes(model: DiffusionModel, prompt: str) -> None:
    kept, cut = model.split_prompt(prompt)
    tokenizer = model.pipeline.tokenizer
    assert kept + cut == prompt
    assert len(tokenizer(kept).input_ids) <= tokenizer.model_max_length
    if cut:
        assert len(tokenizer(prompt).input_ids) > tokenizer.model_max_length


def test_the_networks_move_with_the_module(model: DiffusionModel) -> None:
    pipeline: StableDiffusionPipeline = model.pipeline
    mine = {id(parameter) for parameter in model.parameters()}
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert {id(parameter) for parameter in part.parameters()} <= mine
    assert not any(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("timestep", [999.0, 13, 0.123456789])
def test_a_prediction_copies_no_number_to_the_device_and_waits_for_none(model: DiffusionModel, timestep: float) -> None:
    conditioning = model.encode_prompts(PROMPTS)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = model.predict(latents, timestep, conditioning)
    operations = {event.key for event in profile.key_averages()}
    assert "aten::addmm" in operations
    assert not operations & {"aten::lift_fresh", "aten::_local_scalar_dense", "aten::nonzero"}
    expected = model.network(latents, timestep, conditioning.prompt_embeds).sample
    assert torch.equal(found, expected)
