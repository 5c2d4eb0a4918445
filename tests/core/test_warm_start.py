from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, SchedulerMixin

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.core.warm_start import WarmStart

V = {"prediction_type": "v_prediction"}
SAMPLERS = {
    "DDIM": DDIMScheduler(clip_sample=False),
    "DDIM, v": DDIMScheduler(clip_sample=False, **V),
    "DDIM, z_0": DDIMScheduler(clip_sample=False, prediction_type="sample"),
    "ancestral Euler": EulerAncestralDiscreteScheduler(),
    "ancestral Euler, v": EulerAncestralDiscreteScheduler(**V),
}


def random(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def invert(step: Step, previous: torch.Tensor, epsilon: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """Solves a step whose network always implies this ε."""

    def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return step.prediction_of_noise(latents, epsilon)

    return Renoising().solve(StepEquation(step, previous, network, noise), [0.0] * 200 + [1.0]).latents


@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_that_is_linear_in_t_is_met_from_the_third_step_on_whatever_the_network_predicts(name: str) -> None:
    schedule, warm, latents = Schedule.from_scheduler(SAMPLERS[name], 6), WarmStart(), random(0)
    constant, slope = random(1), random(2)
    for number, step in enumerate(reversed(schedule)):
        noise = random(10 + number) if step.rho else None
        solved = invert(step, latents, constant + step.timestep / 1000 * slope, noise)
        start = warm.start(step, latents, noise)
        if number == 0:
            assert start is None
        elif number >= 2:
            torch.testing.assert_close(start, solved, rtol=0, atol=1e-6)
        warm.record(step, latents, solved, noise)
        latents = solved


def test_the_second_step_takes_the_noise_of_the_first_as_it_is() -> None:
    second, first = Schedule.from_scheduler(SAMPLERS["DDIM"], 2)
    warm, image, epsilon = WarmStart(), random(0), random(1)
    latents = invert(first, image, epsilon, None)
    warm.record(first, image, latents, None)
    start = warm.start(second, latents, None)
    torch.testing.assert_close(start, invert(second, latents, epsilon, None))


def test_a_step_that_does_not_depend_on_the_noise_says_nothing_about_it() -> None:
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False)  # its last step goes from timestep 0 to 0
    second, idle = Schedule.from_scheduler(scheduler, 2)
    warm = WarmStart()
    warm.record(idle, random(0), random(0) * (1 + 1e-7), None)
    assert warm.start(second, random(0), None) is None


def test_a_level_of_pure_noise_has_no_warm_start() -> None:
    scheduler: SchedulerMixin = DDIMScheduler(
        clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing", **V
    )
    noisiest, first = Schedule.from_scheduler(scheduler, 2)
    assert noisiest.noise_from_prediction == 0
    warm = WarmStart()
    warm.record(first, random(0), random(1), None)
    assert warm.start(noisiest, random(1), None) is None
    warm.record(noisiest, random(1), random(2), None)  # nothing can be told from it
    assert len(warm.solved) == 1
