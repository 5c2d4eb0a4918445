from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.noise_correction import NoiseCorrection, exact_noise
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.errors import InputError

strengths = st.one_of(st.just(1.0), st.floats(0.01, 1))


def step(rho: float = 0.7) -> Step:
    return Step(timestep=500, phi=1.2, psi=-0.4, rho=rho, input_scale=1.0, signal=0.8, sigma=0.6)


def random(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(latents: torch.Tensor) -> torch.Tensor:
    return torch.sin(latents) + 0.1 * latents.roll(1, dims=-1)


def never(latents: torch.Tensor) -> torch.Tensor:
    raise AssertionError("the network was called")


def same(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_the_exact_noise_is_the_closed_form() -> None:
    latents, previous, prediction = random(3)
    one = step()
    expected = (previous - one.phi * latents - one.psi * prediction) / one.rho
    same(exact_noise(one, latents, previous, prediction), expected)


@settings(deadline=None)
@given(seed=st.integers(0, 999), rho=st.floats(0.01, 15), size=st.sampled_from([1e-3, 1.0, 30.0]))
def test_override_makes_the_step_exact(seed: int, rho: float, size: float) -> None:
    latents, previous, noise = random(3, seed)
    one, latents = step(rho), size * latents
    corrected = NoiseCorrection("override").correct(one, latents, previous, noise, network)
    assert corrected is not None
    same(corrected, exact_noise(one, latents, previous, network(latents)))
    same(one.denoise(latents, network(latents), corrected), previous)


@settings(deadline=None)
@given(seed=st.integers(0, 999), strength=strengths, steps=st.integers(1, 6))
def test_optimize_is_gradient_descent_on_half_the_squared_error(seed: int, strength: float, steps: int) -> None:
    latents, previous, noise = random(3, seed)
    exact = exact_noise(step(), latents, previous, network(latents))
    descended = noise.clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(0.5 * (descended - exact).square().sum(), descended)
        descended = (descended - strength * gradient).detach().requires_grad_()
    corrected = NoiseCorrection("optimize", strength, steps).correct(step(), latents, previous, noise, network)
    assert corrected is not None
    same(corrected, descended.detach())


@settings(deadline=None)
@given(strength=strengths, steps=st.integers(1, 10), exponent=st.integers(-6, 6))
def test_optimize_takes_the_same_share_of_any_error(strength: float, steps: int, exponent: int) -> None:
    latents, previous, direction = random(3)
    exact = exact_noise(step(), latents, previous, network(latents))
    noise = exact + 10.0**exponent * direction
    corrected = NoiseCorrection("optimize", strength, steps).correct(step(), latents, previous, noise, network)
    assert corrected is not None
    left = float((corrected - exact).norm() / (noise - exact).norm())
    assert left == pytest.approx((1 - strength) ** steps, abs=1e-8)


def test_optimize_at_full_strength_is_override() -> None:
    latents, previous, noise = random(3)
    full = NoiseCorrection("optimize", strength=1).correct(step(), latents, previous, noise, network)
    override = NoiseCorrection("override").correct(step(), latents, previous, noise, network)
    assert full is not None
    assert override is not None
    same(full, override)


def test_each_step_is_corrected_by_one_call_at_its_latents() -> None:
    latents, previous, noise = random(3)
    for correction in (NoiseCorrection("override"), NoiseCorrection("optimize", steps=7)):
        calls: list[torch.Tensor] = []

        def counted(points: torch.Tensor, calls: list[torch.Tensor] = calls) -> torch.Tensor:
            calls.append(points)
            return network(points)

        correction.correct(step(), latents, previous, noise, counted)
        assert len(calls) == 1
        assert torch.equal(calls[0], latents)


def test_the_noise_that_was_drawn_is_left_as_it_is() -> None:
    latents, previous, noise = random(3)
    before = noise.clone()
    NoiseCorrection("override").correct(step(), latents, previous, noise, network)
    assert torch.equal(noise, before)


@pytest.mark.parametrize("method", ["none", "override", "optimize"])
def test_a_step_without_noise_takes_no_call(method: Any) -> None:
    latents, previous, noise = random(3)
    correction = NoiseCorrection(method)
    assert correction.correct(step(rho=0), latents, previous, noise, never) is noise
    assert correction.correct(step(rho=0), latents, previous, None, never) is None


def test_no_correction_takes_no_call() -> None:
    latents, previous, noise = random(3)
    assert NoiseCorrection().correct(step(), latents, previous, noise, never) is noise


@pytest.mark.parametrize("method", ["override", "optimize"])
def test_a_deterministic_sampler_has_nothing_to_correct(method: Any) -> None:
    deterministic = Schedule((step(rho=0), step(rho=0)), init_noise_sigma=1.0)
    with pytest.raises(InputError, match=rf"model\.noise_correction must be none with DDIMScheduler.*got {method}"):
        NoiseCorrection(method).validate(deterministic, "DDIMScheduler")


def test_a_correction_that_has_something_or_nothing_to_do_is_accepted() -> None:
    deterministic = Schedule((step(rho=0), step(rho=0)), init_noise_sigma=1.0)
    NoiseCorrection("none").validate(deterministic, "DDIMScheduler")
    last_step_alone_is_without = Schedule((step(), step(rho=0)), init_noise_sigma=1.0)
    NoiseCorrection("override").validate(last_step_alone_is_without, "LCMScheduler")


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: NoiseCorrection("optimize"), r"model\.noise_correction must be none, override, optimize, got 'optimize'"),
    (lambda: NoiseCorrection("optimize", strength=0), r"model\.noise_correction_strength must lie in \(0, 1\], got 0"),
    (lambda: NoiseCorrection("optimize", strength=-0.5), r"model\.noise_correction_strength .* got -0\.5"),
    (lambda: NoiseCorrection("optimize", strength=1.8), r"model\.noise_correction_strength .* got 1\.8"),
    (lambda: NoiseCorrection("optimize", strength=math.nan), r"model\.noise_correction_strength .* got nan"),
    (lambda: NoiseCorrection("optimize", steps=0), r"model\.noise_correction_steps must be 1 or more, got 0"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_settings_that_make_no_sense_are_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
