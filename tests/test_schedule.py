from __future__ import annotations

import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
)

from renoise.errors import InputError
from renoise.schedule import Schedule

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS = ("leading", "trailing", "linspace")


def ddim(**options: object) -> DDIMScheduler:
    return DDIMScheduler(
        **STABLE_DIFFUSION | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1} | options
    )


def ddim_closed_form(scheduler: DDIMScheduler, timestep: int, steps: int) -> tuple[float, float]:
    """φ and ψ of PAPER's table for ε-prediction, and of the same step written in v for v-prediction."""
    previous = timestep - scheduler.config.num_train_timesteps // steps
    alpha = float(scheduler.alphas_cumprod[timestep])
    alpha_previous = float(scheduler.alphas_cumprod[previous] if previous >= 0 else scheduler.final_alpha_cumprod)
    phi = math.sqrt(alpha_previous / alpha)
    psi = math.sqrt(1 - alpha_previous) - phi * math.sqrt(1 - alpha)
    if scheduler.config.prediction_type == "v_prediction":  # ε = √ᾱ v + √(1−ᾱ) z
        phi, psi = phi + psi * math.sqrt(1 - alpha), psi * math.sqrt(alpha)
    return phi, psi


@pytest.mark.parametrize("steps", [4, 10, 50])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ddim_coefficients_are_the_closed_forms(spacing: str, prediction_type: str, steps: int) -> None:
    scheduler = ddim(timestep_spacing=spacing, prediction_type=prediction_type)
    schedule = Schedule.read(scheduler, steps)
    assert len(schedule) == steps
    for step in schedule:
        phi, psi = ddim_closed_form(scheduler, int(step.timestep), steps)
        assert step.phi == pytest.approx(phi, abs=1e-6)
        assert step.psi == pytest.approx(psi, abs=1e-6)
        assert step.rho == 0
        assert step.input_scale == 1


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ancestral_euler_coefficients_are_the_closed_forms(spacing: str) -> None:
    scheduler = EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing=spacing)
    schedule = Schedule.read(scheduler, 4)
    scheduler.set_timesteps(4)
    for step, sigma, following in zip(
        schedule, scheduler.sigmas[:-1].tolist(), scheduler.sigmas[1:].tolist(), strict=True
    ):
        up = math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2)
        down = math.sqrt(following**2 - up**2)
        assert step.phi == pytest.approx(1, abs=1e-6)
        assert step.psi == pytest.approx(down - sigma, abs=1e-5)
        assert step.rho == pytest.approx(up, abs=1e-5)
        assert step.input_scale == pytest.approx(1 / math.sqrt(sigma**2 + 1), abs=1e-6)


SINGLE_STEP = [
    ddim(),
    ddim(prediction_type="v_prediction", timestep_spacing="trailing"),
    ddim(timestep_spacing="linspace"),
    DDPMScheduler(**STABLE_DIFFUSION, clip_sample=False),
    EulerDiscreteScheduler(**STABLE_DIFFUSION),
    EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing="trailing"),
    LCMScheduler(**STABLE_DIFFUSION, clip_sample=False),
]


@pytest.mark.parametrize("scheduler", SINGLE_STEP, ids=lambda scheduler: type(scheduler).__name__)
def test_a_step_is_the_schedulers_own_and_its_inverse_undoes_it(scheduler: SchedulerMixin) -> None:
    schedule = Schedule.read(scheduler, 8)
    scheduler.set_timesteps(8)
    generator = torch.Generator().manual_seed(3)
    for step, timestep in zip(schedule, scheduler.timesteps, strict=True):
        latents, prediction = torch.randn(2, 2, 4, 8, 8, generator=generator)
        scheduler.scale_model_input(latents, timestep)
        seed = int(timestep)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
        options = {"generator": torch.Generator().manual_seed(seed)} if step.rho else {}
        expected = scheduler.step(prediction, timestep, latents, return_dict=False, **options)[0]
        ours = step.denoise(latents, prediction, noise)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
        torch.testing.assert_close(step.renoise(expected, prediction, noise), latents, rtol=1e-5, atol=1e-5)


def test_reading_leaves_the_scheduler_as_it_was() -> None:
    scheduler = ddim()
    scheduler.set_timesteps(7)
    before = scheduler.timesteps.clone()
    Schedule.read(scheduler, 50)
    assert torch.equal(scheduler.timesteps, before)


@pytest.mark.parametrize(
    "scheduler",
    [
        DPMSolverMultistepScheduler(**STABLE_DIFFUSION),
        PNDMScheduler(**STABLE_DIFFUSION, skip_prk_steps=True),
        HeunDiscreteScheduler(**STABLE_DIFFUSION),
        ddim(clip_sample=True),
        ddim(thresholding=True),
    ],
    ids=["multistep", "pseudo-multistep", "second order", "clipping", "thresholding"],
)
def test_a_sampler_whose_step_is_not_affine_is_refused_with_the_reason(scheduler: SchedulerMixin) -> None:
    with pytest.raises(InputError, match=r"model\.scheduler: .* is not affine"):
        Schedule.read(scheduler, 10)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_an_impossible_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(InputError, match=r"model\.num_inference_steps must lie in 1…1000"):
        Schedule.read(ddim(), steps)


def test_steps_that_the_sampler_itself_cannot_make_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.num_inference_steps: DDIMScheduler cannot make 1000"):
        Schedule.read(ddim(timestep_spacing="leading"), 1000)  # its offset of 1 leads beyond the last timestep
    with pytest.raises(InputError, match=r"model\.num_inference_steps: LCMScheduler cannot make 60"):
        Schedule.read(LCMScheduler(**STABLE_DIFFUSION, clip_sample=False), 60)


def test_a_stochastic_step_asks_for_its_noise() -> None:
    step = Schedule.read(LCMScheduler(**STABLE_DIFFUSION, clip_sample=False), 4).steps[0]
    with pytest.raises(ValueError, match="needs its noise"):
        step.denoise(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), None)
