"""Renoising steps of flow matching, against closed forms for Gaussian data."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from renoise.core.anderson import Anderson
from renoise.core.budget import contraction
from renoise.core.edit_regularization import EditRegularization
from renoise.core.edit_regularizer import EditRegularizer
from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import AveragingWeights, ReNoiseStep, Renoising
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.core.warm_start import WarmStart

SHIFT = 3.0
SPREADS = [0.3, 1.0, 2.0]
"""Standard deviations s of the data."""


def schedule(steps: int = 28, stochastic: bool = False) -> Schedule:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT, stochastic_sampling=stochastic)
    return Schedule.from_scheduler(scheduler, steps)


def cleaner_sigma(step: Step) -> float:
    return step.sigma + step.psi  # ψ = σ' − σ


def slope(step: Step, spread: float) -> float:
    """v(z) / z for data N(0, s²): E[noise − z_0 | z] = (σ − (1 − σ) s²) / D · z."""
    sigma = step.sigma
    return (sigma - (1 - sigma) * spread**2) / ((1 - sigma) ** 2 * spread**2 + sigma**2)


def numbers(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def equation(step: Step, spread: float) -> StepEquation:
    return StepEquation(step, numbers(), lambda latents, index: slope(step, spread) * latents)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("position", [1, 10, 20, 26])
def test_an_iteration_that_holds_v_contracts_by_the_closed_form(position: int, spread: float) -> None:
    step = schedule().steps[position]
    of_step = equation(step, spread)
    first, second = (numbers(seed) for seed in (1, 2))
    index = torch.arange(2)
    images = [of_step.renoise(of_step.predict(each, index), each, index) for each in (first, second)]
    sigma = step.sigma
    variance = (1 - sigma) ** 2 * spread**2 + sigma**2
    expected = (sigma - cleaner_sigma(step)) * abs(sigma - (1 - sigma) * spread**2) / variance
    assert float((images[0] - images[1]).norm() / (first - second).norm()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("spread", SPREADS)
def test_holding_the_noise_instead_would_contract_by_the_other_closed_form(spread: float) -> None:
    step = schedule().steps[1]
    latents = numbers(1)
    noise = step.predicted_noise(latents, slope(step, spread) * latents)
    rate = float((step.psi_of_noise / step.phi_of_noise * noise).norm() / latents.norm())
    sigma, cleaner = step.sigma, cleaner_sigma(step)
    variance = (1 - sigma) ** 2 * spread**2 + sigma**2
    assert rate == pytest.approx((sigma - cleaner) / (1 - cleaner) * sigma / variance, rel=1e-5)
    assert rate > 5 * abs(step.psi * slope(step, spread))  # the second of 28 steps, where v is far better


def test_the_step_to_the_image_does_not_contract_what_the_model_removes() -> None:
    assert abs(schedule().steps[-1].psi * slope(schedule().steps[-1], spread=0.0)) == pytest.approx(1)
    assert contraction(schedule().steps[-1]) == 0.95  # the most that a budget counts with


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("solver", [Renoising(), Anderson()], ids=["Renoising", "Anderson"])
def test_a_solved_step_leads_back(solver: Renoising, spread: float) -> None:
    for step in schedule(8):
        of_step = equation(step, spread)
        solution = solver.solve(of_step, [0.0] * 60 + [1.0], tolerance=1e-12)
        assert solution.converged is not None
        assert solution.converged.all()
        back = step.denoise(solution.latents, slope(step, spread) * solution.latents, None)
        torch.testing.assert_close(back, of_step.previous, rtol=0, atol=1e-10)


def test_a_residual_is_the_relative_error_of_the_samplers_step() -> None:
    step = schedule().steps[5]
    of_step = equation(step, 2.0)
    solution = Renoising().solve(of_step, [1.0])
    stepped = step.denoise(of_step.previous, slope(step, 2.0) * of_step.previous, None)
    error = (stepped - of_step.previous).flatten(1).norm(dim=1) / of_step.previous.flatten(1).norm(dim=1)
    torch.testing.assert_close(solution.residual, error)


def test_a_warm_start_solves_a_flow_along_straight_lines() -> None:
    """Of one image v is the same at all levels, and no step after the first needs a call."""
    velocity, warm = numbers(1), WarmStart()
    latents = numbers()
    for step in reversed(schedule(6)):
        start = warm.start(step, latents, None)
        solved = step.renoise(latents, velocity, None)
        if start is not None:
            torch.testing.assert_close(start, solved)
        warm.record(step, latents, solved, None)
        latents = solved


def test_the_boundary_of_averaging_is_a_level_before_the_shift() -> None:
    weights = AveragingWeights(below=[0.5, 0.5], above=[1.0])
    averaging = ReNoiseStep(iterations=1, averaging_weights=weights)
    averaged = []
    for step in schedule():
        unshifted = step.sigma / (SHIFT - (SHIFT - 1) * step.sigma)
        assert step.level == pytest.approx(1000 * unshifted, rel=1e-5)
        of_step = equation(step, 2.0)
        last = Renoising().solve(of_step, [0.0, 1.0]).latents
        averaged.append(not torch.equal(averaging.invert(of_step)[0].latents, last))
        assert averaged[-1] == (unshifted < 0.25)
    assert 0 < sum(averaged) < 28


def test_edit_regularization_changes_the_noise_and_not_where_the_noise_hardly_shows() -> None:
    steps = schedule()
    regularization = EditRegularization(lambda_pair=5.0, lambda_patch_kl=0.0)
    regularizer = EditRegularizer(regularization, steps, 1, numbers(), ImageRNG(0, ["a", "b"]))
    index = torch.arange(2)
    changed = []
    for position, step in enumerate(steps):
        of_step = regularizer.at(position, index, lambda latents, images: latents)
        latents, velocity = numbers(3), numbers(4)
        regular = of_step.regularize(velocity, latents, index, 0)
        changed.append(not torch.equal(regular, velocity))
        if changed[-1]:
            noise = regularization.regularize(latents + step.signal * velocity, None, of_step.uniform[0][..., index])
            torch.testing.assert_close(latents + step.signal * regular, noise, rtol=1e-5, atol=1e-5)
    assert changed == [step.sigma <= 0.9 for step in steps]
    assert 0 < sum(changed) < 28


@pytest.mark.parametrize("stochastic", [False, True])
def test_a_step_leads_to_the_level_of_the_next(stochastic: bool) -> None:
    steps = schedule(6, stochastic)
    assert steps.steps[0].sigma == 1
    for step, following in zip(steps.steps[:-1], steps.steps[1:], strict=True):
        assert step.cleaner_level == pytest.approx((following.signal, following.sigma), abs=1e-5)
        assert step.kept_noise == pytest.approx(0 if stochastic else following.sigma, abs=1e-5)
    assert steps.steps[-1].cleaner_level == pytest.approx((1, 0), abs=1e-5)
