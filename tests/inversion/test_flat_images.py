"""White and padded images: every preset reconstructs them, and edit regularization makes no wide noise of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import pytest
import torch
from torch import nn

import renoise
from benchmarks.shared.presets import load, read_tiny, tiny_presets
from benchmarks.shared.scenes import images_of, unseen_scenes
from renoise.api.pipeline import InversionPipeline
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.metrics.functional import psnr
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning

STEPS = 5
"""Of the presets that take 50."""
LOST = {"lcm_lora": 10.0, "sd14": 3.0, "sdxl": 2.0, "sdxl_turbo": 2.0}
"""Most dB below the autoencoder's round trip. L_pair takes color out of flat areas, most of all at its weight of 20."""
LOST_FAST = 0.5
WIDEST_PATCH = 1.5
"""About the largest standard deviation of 128 patches of 16 standard normal numbers."""
NAMES = ["white", "black bars"]
COLORS = torch.tensor([[2.5, -1.25, 0.6, 3.1], [-2.0, 1.0, 0.3, -1.7]])
"""z_0 of two flat images: the value of each channel."""


def flat_images() -> torch.Tensor:
    """A white image, and a scene between black bars."""
    images = images_of(unseen_scenes(2)).clone()
    images[0] = 1
    images[1, :, :16] = images[1, :, 48:] = 0
    return images


@lru_cache(maxsize=1)
def tiny_pipeline(preset: str) -> InversionPipeline:
    settings = read_tiny(preset)
    options: dict[str, Any] = settings["inversion"]["init_args"]
    if settings["num_inference_steps"] == 50:
        if "max_nfe" in options:
            options["max_nfe"] = options["max_nfe"] * STEPS // settings["num_inference_steps"]
        settings["num_inference_steps"] = STEPS
    return load(settings)


@contextmanager
def rounding_to_half(model: DiffusionModel) -> Iterator[None]:
    """Rounds what every layer returns to float16, which overflows at 65504. In float16 a CPU is 20 times slower."""

    def rounded(layer: nn.Module, inputs: object, output: object) -> object:
        return output.half().float() if isinstance(output, torch.Tensor) else output

    hooks = [layer.register_forward_hook(rounded) for layer in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("preset", tiny_presets())
@torch.no_grad()
def test_every_preset_reconstructs_flat_images_when_layers_round_to_half(preset: str) -> None:
    pipeline, images = tiny_pipeline(preset), flat_images()
    with rounding_to_half(pipeline.model):
        inverted = pipeline.invert(images, names=NAMES)
        rebuilt = pipeline.model.decode_latents(sample(pipeline.model, inverted.inversion))
    ceiling = psnr(pipeline.model.decode_latents(pipeline.model.encode_images(images)), images)
    assert bool((psnr(rebuilt, images) >= ceiling - LOST.get(preset, LOST_FAST)).all())  # false where there is NaN


@torch.no_grad()
def test_a_white_image_survives_real_half_precision() -> None:
    settings, white = read_tiny("sdxl_turbo_fast"), torch.ones(1, 3, 64, 64)
    pipeline = renoise.load(settings["checkpoint"], preset="sdxl_turbo_fast", dtype=torch.float16)
    inverted = pipeline.invert(white, names=["white"])
    rebuilt = pipeline.model.decode_latents(sample(pipeline.model, inverted.inversion))
    ceiling = psnr(pipeline.model.decode_latents(pipeline.model.encode_images(white)), white)
    assert bool((psnr(rebuilt, white) >= ceiling - LOST_FAST).all())


class SureNetwork:
    """Knows that the image is flat, as a good network does of a white one: ε_θ = (z_t − signal · z_0) / sigma.

    What it predicts at z_{t-1} is flat, too, up to the rounding of `dtype`, and the statistics of its patches vanish.
    """

    takes_guidance_scale = False

    def __init__(self, schedule: Schedule, dtype: torch.dtype) -> None:
        self.steps = {step.timestep: step for step in schedule}
        self.dtype = dtype

    def predict(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        """Stands in for `DiffusionModel.predict`. The prompt is the image."""
        step, image = self.steps[timestep], conditioning.prompt_embeds[:, 0, :, None, None]
        noise = (latents / step.input_scale - step.signal * image) / step.sigma
        prediction = noise - image if step.flow else noise
        return prediction.to(self.dtype).to(latents)


def inverted_by(method: Inverter, network: SureNetwork, schedule: Schedule) -> Inversion:
    latents = COLORS[:, :, None, None].expand(-1, -1, 16, 16).contiguous()
    rng, model = ImageRNG(0, ["bright", "dark"]), cast(DiffusionModel, network)
    inversion = method.invert(model, schedule, latents, Conditioning(COLORS[:, None]), rng)
    error = (sample(model, inversion) - latents).square().mean()
    assert error < 1e-3
    return inversion


def widest_patch(inversion: Inversion) -> float:
    """Returns the largest standard deviation of a 4×4 patch of z_T, where noise has 1."""
    patches = inversion.latents.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    return float(patches.std(-1).max()) / inversion.schedule.init_noise_sigma


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("preset", tiny_presets())
def test_flat_predictions_become_no_wider_than_noise(preset: str, dtype: torch.dtype) -> None:
    pipeline = tiny_pipeline(preset)
    method, schedule = pipeline.inversion, pipeline.schedule
    assert isinstance(method, ReNoise)
    network = SureNetwork(schedule, dtype)
    found = widest_patch(inverted_by(method, network, schedule))
    plain_method = copy.copy(method)
    plain_method.regularization = None
    plain = widest_patch(inverted_by(plain_method, network, schedule))
    assert found <= max(WIDEST_PATCH, 1.1 * plain)
