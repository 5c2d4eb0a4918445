from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler, SchedulerMixin

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.core.step import Step

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NO_CLIPPING = STABLE_DIFFUSION | {"clip_sample": False}
schedulers = pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(**NO_CLIPPING),
        DDIMScheduler(**NO_CLIPPING, prediction_type="v_prediction"),
        DDIMScheduler(**NO_CLIPPING, prediction_type="sample"),
        EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, prediction_type="v_prediction"),
        LCMScheduler(**NO_CLIPPING, prediction_type="v_prediction"),
        DDIMScheduler(
            **NO_CLIPPING,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            rescale_betas_zero_snr=True,  # the first step is at pure noise, where v does not imply ε
        ),
    ],
    ids=["epsilon", "v", "sample", "ancestral v", "LCM v", "v at zero SNR"],
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return 0.3 * torch.sin(latents) + 0.1 * index[:, None, None, None]


def relative_error(step: Step, equation: StepEquation, estimate: torch.Tensor) -> torch.Tensor:
    """Returns the error of the sampler's own step from an estimate, ‖denoise(z^k) − z_{t-1}‖ / ‖z_{t-1}‖, [B]."""
    prediction = equation.predict(estimate, torch.arange(len(estimate)))
    error = step.denoise(estimate, prediction, equation.noise) - equation.previous
    relative: torch.Tensor = error.flatten(1).norm(dim=1) / equation.previous.flatten(1).norm(dim=1)
    return relative


@schedulers
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_the_residual_is_the_error_of_the_samplers_step_from_the_last_evaluated_estimate(
    scheduler: SchedulerMixin, iterations: int
) -> None:
    for step in Schedule.from_scheduler(scheduler, 4):
        evaluated: list[torch.Tensor] = []

        def predict(latents: torch.Tensor, index: torch.Tensor, seen: list[torch.Tensor] = evaluated) -> torch.Tensor:
            seen.append(latents)
            return network(latents, index)

        equation = StepEquation(step, random(3, 4, 8, 8), predict, random(3, 4, 8, 8, seed=1))
        solution = Renoising().solve(equation, [0.0] * iterations + [1.0])
        assert len(evaluated) == iterations + 1
        expected = relative_error(step, equation, evaluated[-1])
        torch.testing.assert_close(solution.residual, expected, rtol=1e-6, atol=1e-12)


@schedulers
def test_an_evaluated_estimate_without_error_is_a_fixed_point(scheduler: SchedulerMixin) -> None:
    index = torch.arange(3)
    for step in Schedule.from_scheduler(scheduler, 4):
        latents, noise = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1)
        prediction = network(latents, index)
        equation = StepEquation(step, step.denoise(latents, prediction, noise), network, noise)
        renoised = equation.renoise(prediction, latents, index)
        torch.testing.assert_close(renoised, latents, rtol=0, atol=1e-9)
        assert bool((equation.residual(latents, renoised, index) < 1e-9).all())


def test_renoise_and_residual_of_some_images_are_those_of_the_whole_batch() -> None:
    step = Step(500, phi=1.2, psi=-0.3, rho=0.5, input_scale=1.0, signal=0.8, sigma=0.6)
    previous, noise, estimate = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1), random(3, 4, 8, 8, seed=2)
    equation, every, some = StepEquation(step, previous, network, noise), torch.arange(3), torch.tensor([2, 0])
    prediction = network(estimate, every)
    renoised = equation.renoise(prediction, estimate, every)
    torch.testing.assert_close(equation.renoise(prediction[some], estimate[some], some), renoised[some])
    residual = equation.residual(estimate, renoised, every)
    torch.testing.assert_close(equation.residual(estimate[some], renoised[some], some), residual[some])
