from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler, SchedulerMixin

from renoise.core.noise_correction import exact_noise
from renoise.core.posterior import draw_latents
from renoise.core.schedule import Schedule

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
SAMPLERS = {
    "ancestral Euler": (EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing="trailing"), 0.0),
    "LCM": (LCMScheduler(**STABLE_DIFFUSION, clip_sample=False), 0.0),
    "DDPM": (DDPMScheduler(**STABLE_DIFFUSION, clip_sample=False), 0.0),
    "DDIM, η = 1": (DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False, steps_offset=1), 1.0),
    "DDIM, η = 0.4": (DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False), 0.4),
    "DDIM, v": (
        DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False, prediction_type="v_prediction"),
        1.0,
    ),
    "DDIM, zero SNR": (DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False, **ZERO_SNR), 0.5),
}
samplers = pytest.mark.parametrize("name", SAMPLERS)


def random(seed: int) -> torch.Tensor:
    return torch.randn(4, 4, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def schedule_of(name: str) -> Schedule:
    scheduler: SchedulerMixin
    scheduler, eta = SAMPLERS[name]
    return Schedule.from_scheduler(scheduler, 5, eta)


@samplers
def test_the_level_that_a_step_leads_to_is_that_of_the_next_step(name: str) -> None:
    for step, cleaner in pairwise(schedule_of(name)):
        signal, sigma = step.cleaner_level
        if name == "LCM":  # its boundary condition is not quite 1 and 0 (c_skip, c_out)
            assert signal == pytest.approx(cleaner.signal, rel=1e-2)
            assert sigma == pytest.approx(cleaner.sigma, rel=1e-2)
            continue
        assert signal == pytest.approx(cleaner.signal, rel=1e-4, abs=1e-6)
        assert sigma == pytest.approx(cleaner.sigma, rel=1e-4, abs=1e-6)


@samplers
def test_latents_and_noise_are_those_of_the_samplers_own_way_down(name: str) -> None:
    """For a network that predicts exactly: ε is standard normal, ε* too, and they are independent of one another."""
    image, gaussian, fresh = random(0), random(1), random(2)
    for step in schedule_of(name).steps[:-1]:
        signal, sigma = step.cleaner_level
        previous = signal * image + sigma * gaussian
        latents = draw_latents(step, previous, image, fresh)
        epsilon = (latents - step.signal * image) / step.sigma
        of_pure_noise = step.noise_from_prediction == 0
        prediction = -image if of_pure_noise else step.prediction_of_noise(latents, epsilon)
        noise = exact_noise(step, latents, previous, prediction)
        for drawn in (epsilon, noise):
            assert abs(float(drawn.mean())) < 0.02
            assert float(drawn.std()) == pytest.approx(1, abs=0.02)
        assert abs(float((epsilon * noise).mean())) < 0.02
        assert float((epsilon * gaussian).mean()) == pytest.approx(step.kept_noise / sigma, abs=0.02)
        torch.testing.assert_close(step.denoise(latents, prediction, noise), previous)


def test_without_fresh_noise_the_noise_of_the_image_is_kept_in_part() -> None:
    step = schedule_of("ancestral Euler").steps[1]
    image, gaussian = random(0), random(1)
    signal, sigma = step.cleaner_level
    latents = draw_latents(step, signal * image + sigma * gaussian, image, torch.zeros_like(image))
    share = math.sqrt(1 - (step.rho / sigma) ** 2)
    torch.testing.assert_close(latents, step.add_noise(image, share * gaussian), rtol=0, atol=1e-6)
