from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.fixed_point import StepEquation
from renoise.core.noise_correction import NoiseCorrection, exact_noise
from renoise.core.renoise import ReNoiseStep
from renoise.core.schedule import Schedule
from renoise.core.step import Step

strengths = st.one_of(st.just(1.0), st.floats(0.01, 1))
methods = pytest.mark.parametrize("method", ["override", "optimize"])


def step(rho: float = 0.7) -> Step:
    return Step(timestep=500, phi=1.2, psi=-0.4, rho=rho, input_scale=1.0, signal=0.8, sigma=0.6)


def random(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(latents: torch.Tensor) -> torch.Tensor:
    return torch.sin(latents) + 0.1 * latents.roll(1, dims=-1)


class RecordingNetwork:
    """A network that records the latents and the index of each call."""

    def __init__(self) -> None:
        self.latents: list[torch.Tensor] = []
        self.index: list[list[int]] = []

    def __call__(self, latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        self.latents.append(latents)
        self.index.append(index.tolist())
        return network(latents)


def assert_same(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_the_exact_noise_is_the_closed_form() -> None:
    latents, previous, prediction = random(3)
    one = step()
    expected = (previous - one.phi * latents - one.psi * prediction) / one.rho
    assert_same(exact_noise(one, latents, previous, prediction), expected)


@settings(deadline=None)
@given(seed=st.integers(0, 999), rho=st.floats(0.01, 15), size=st.sampled_from([1e-3, 1.0, 30.0]))
def test_override_makes_the_step_exact(seed: int, rho: float, size: float) -> None:
    latents, previous, noise = random(3, seed)
    latents = size * latents
    one, prediction = step(rho), network(latents)
    corrected = NoiseCorrection("override").correct(one, latents, previous, noise, prediction)
    assert_same(corrected, exact_noise(one, latents, previous, prediction))
    assert_same(one.denoise(latents, prediction, corrected), previous)


@settings(deadline=None)
@given(seed=st.integers(0, 999), strength=strengths, steps=st.integers(1, 6))
def test_optimize_is_gradient_descent_on_half_the_squared_error(seed: int, strength: float, steps: int) -> None:
    latents, previous, noise = random(3, seed)
    exact = exact_noise(step(), latents, previous, network(latents))
    descended = noise.clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(0.5 * (descended - exact).square().sum(), descended)
        descended = (descended - strength * gradient).detach().requires_grad_()
    correction = NoiseCorrection("optimize", strength, steps)
    corrected = correction.correct(step(), latents, previous, noise, network(latents))
    assert_same(corrected, descended.detach())


@settings(deadline=None)
@given(strength=strengths, steps=st.integers(1, 10), exponent=st.integers(-6, 6))
def test_optimize_removes_the_same_share_of_any_error(strength: float, steps: int, exponent: int) -> None:
    latents, previous, direction = random(3)
    exact = exact_noise(step(), latents, previous, network(latents))
    noise = exact + 10.0**exponent * direction
    correction = NoiseCorrection("optimize", strength, steps)
    corrected = correction.correct(step(), latents, previous, noise, network(latents))
    left = float((corrected - exact).norm() / (noise - exact).norm())
    assert left == pytest.approx((1 - strength) ** steps, abs=1e-8)
    assert correction.share == pytest.approx(1 - left, abs=1e-8)


def test_optimize_at_full_strength_is_override() -> None:
    latents, previous, noise = random(3)
    full = NoiseCorrection("optimize", strength=1).correct(step(), latents, previous, noise, network(latents))
    override = NoiseCorrection("override").correct(step(), latents, previous, noise, network(latents))
    assert_same(full, override)


def test_the_drawn_noise_is_not_changed_in_place() -> None:
    latents, previous, noise = random(3)
    before = noise.clone()
    NoiseCorrection("override").correct(step(), latents, previous, noise, network(latents))
    assert torch.equal(noise, before)


@methods
def test_a_step_corrects_its_noise_with_one_call_at_the_latents_it_found(method: Any) -> None:
    previous, noise = random(2)
    recording, correction = RecordingNetwork(), NoiseCorrection(method, steps=7)
    inverter = ReNoiseStep(iterations=2, noise_correction=correction)
    solution, corrected = inverter.invert(StepEquation(step(), previous, recording, noise))
    assert recording.index == [[0, 1]] * (3 + 1)
    assert torch.equal(recording.latents[-1], solution.latents)
    prediction = network(solution.latents)
    assert corrected is not None
    assert_same(corrected, correction.correct(step(), solution.latents, previous, noise, prediction))


def test_a_step_with_override_leads_exactly_back_to_the_latents_it_started_from() -> None:
    previous, noise = random(2)
    inverter = ReNoiseStep(iterations=0, noise_correction=NoiseCorrection("override"))
    solution, corrected = inverter.invert(StepEquation(step(), previous, RecordingNetwork(), noise))
    assert_same(step().denoise(solution.latents, network(solution.latents), corrected), previous)


@methods
def test_a_step_that_draws_no_noise_makes_no_call_for_the_correction(method: Any) -> None:
    previous, noise = random(2)
    inverter = ReNoiseStep(iterations=1, noise_correction=NoiseCorrection(method))
    for drawn in (noise, None):
        recording = RecordingNetwork()
        _, corrected = inverter.invert(StepEquation(step(rho=0), previous, recording, drawn))
        assert corrected is drawn
        assert len(recording.index) == 2


def test_without_correction_the_noise_stays_as_it_was_drawn() -> None:
    previous, noise = random(2)
    recording = RecordingNetwork()
    _, kept = ReNoiseStep(iterations=1).invert(StepEquation(step(), previous, recording, noise))
    assert kept is noise
    assert len(recording.index) == 2


def test_a_sampler_that_draws_no_noise_has_nothing_to_correct() -> None:
    deterministic = Schedule((step(rho=0), step(rho=0)), init_noise_sigma=1.0)
    with pytest.raises(ValueError, match=r"^noise_correction needs a sampler that draws noise"):
        deterministic.check_stochastic("noise_correction")


def test_a_sampler_that_draws_noise_at_some_steps_can_be_corrected() -> None:
    Schedule((step(), step(rho=0)), init_noise_sigma=1.0).check_stochastic("noise_correction")


UNKNOWN: Any = "none"
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: NoiseCorrection(UNKNOWN), r"^method must be override or optimize, got 'none'$"),
    (lambda: NoiseCorrection("optimize", strength=0), r"^strength must be in \(0, 1\], got 0$"),
    (lambda: NoiseCorrection("optimize", strength=-0.5), r"^strength .* got -0\.5$"),
    (lambda: NoiseCorrection("optimize", strength=1.8), r"^strength .* got 1\.8$"),
    (lambda: NoiseCorrection("optimize", strength=math.nan), r"^strength .* got nan$"),
    (lambda: NoiseCorrection("optimize", steps=0), r"^steps must be 1 or more, got 0$"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_values_out_of_range_are_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
