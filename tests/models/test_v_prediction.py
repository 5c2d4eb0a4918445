"""A network that predicts v gives the same inversion as the same network converted to predict ε."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import ConfigMixin, DDIMScheduler, EulerAncestralDiscreteScheduler
from helpers.inversions import BoundInverter

from benchmarks.shared.scenes import UNSEEN_SEED, images_of, prompts_of
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)


@pytest.fixture(scope="module")
def by_noise(tiny_sd: Path) -> DiffusionModel:
    return load_model(str(tiny_sd))


@pytest.fixture(scope="module")
def by_velocity(tiny_sd: Path) -> DiffusionModel:
    """The same network, its predictions converted to v = √ᾱ ε − √(1−ᾱ) z_0."""
    model = load_model(str(tiny_sd))
    alphas = model.pipeline.scheduler.alphas_cumprod

    def to_velocity(_: object, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        latents, timestep = inputs[:2]
        alpha = float(alphas[int(timestep)])
        return ((output[0] - math.sqrt(1 - alpha) * latents) / math.sqrt(alpha),)

    model.network.register_forward_hook(to_velocity)
    return model


def inverted(
    model: DiffusionModel, sampler: type[ConfigMixin], prediction_type: str, losses: EditRegularization | None
) -> Inversion:
    scheduler = sampler.from_config(
        model.pipeline.scheduler.config, prediction_type=prediction_type, timestep_spacing="trailing"
    )
    schedule = Schedule.from_scheduler(scheduler, 4)
    correction = NoiseCorrection("optimize") if schedule.is_stochastic else None
    inverter = BoundInverter(ReNoise(1, regularization=losses, noise_correction=correction), model, schedule)
    return inverter.invert(model.encode_images(images_of(SCENES)), *prompts_of(model, SCENES))


@pytest.mark.parametrize(
    "losses", [None, EditRegularization(lambda_pair=10, lambda_patch_kl=0.05)], ids=["plain", "losses"]
)
@pytest.mark.parametrize("sampler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
@torch.no_grad()
def test_both_give_the_same_latents_noise_and_reconstruction(
    by_noise: DiffusionModel, by_velocity: DiffusionModel, sampler: type[ConfigMixin], losses: EditRegularization | None
) -> None:
    expected = inverted(by_noise, sampler, "epsilon", losses)
    found = inverted(by_velocity, sampler, "v_prediction", losses)
    scale = expected.schedule.init_noise_sigma
    torch.testing.assert_close(found.latents / scale, expected.latents / scale, rtol=1e-3, atol=2e-3)
    if expected.noise is not None:
        torch.testing.assert_close(found.noise, expected.noise, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(sample(by_velocity, found), sample(by_noise, expected), rtol=1e-3, atol=5e-3)
