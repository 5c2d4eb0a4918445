from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.noise_correction import NoiseCorrection, exact_noise
from renoise.core.step import Step

strengths = st.one_of(st.just(1.0), st.floats(0.01, 1))


def step(rho: float = 0.7) -> Step:
    return Step(timestep=500, phi=1.2, psi=-0.4, rho=rho, input_scale=1.0, signal=0.8, sigma=0.6)


def random(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(latents: torch.Tensor) -> torch.Tensor:
    return torch.sin(latents) + 0.1 * latents.roll(1, dims=-1)


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
    corrected = NoiseCorrection("override").correct(one, latents, previous, noise, network(latents))
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
    corrected = NoiseCorrection("optimize", strength, steps).correct(step(), latents, previous, noise, network(latents))
    same(corrected, descended.detach())


@settings(deadline=None)
@given(strength=strengths, steps=st.integers(1, 10), exponent=st.integers(-6, 6))
def test_optimize_takes_the_same_share_of_any_error(strength: float, steps: int, exponent: int) -> None:
    latents, previous, direction = random(3)
    exact = exact_noise(step(), latents, previous, network(latents))
    noise = exact + 10.0**exponent * direction
    corrected = NoiseCorrection("optimize", strength, steps).correct(step(), latents, previous, noise, network(latents))
    left = float((corrected - exact).norm() / (noise - exact).norm())
    assert left == pytest.approx((1 - strength) ** steps, abs=1e-8)


def test_optimize_at_full_strength_is_override() -> None:
    latents, previous, noise = random(3)
    full = NoiseCorrection("optimize", strength=1).correct(step(), latents, previous, noise, network(latents))
    override = NoiseCorrection("override").correct(step(), latents, previous, noise, network(latents))
    same(full, override)


def test_the_noise_that_was_drawn_is_not_changed_in_place() -> None:
    latents, previous, noise = random(3)
    before = noise.clone()
    NoiseCorrection("override").correct(step(), latents, previous, noise, network(latents))
    assert torch.equal(noise, before)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: NoiseCorrection(cast(Any, "optimise")), r"^method must be override or optimize, got 'optimise'"),
    (lambda: NoiseCorrection("optimize", strength=0), r"^strength must be in \(0, 1\], got 0"),
    (lambda: NoiseCorrection("optimize", strength=-0.5), r"^strength .* got -0\.5"),
    (lambda: NoiseCorrection("optimize", strength=1.8), r"^strength .* got 1\.8"),
    (lambda: NoiseCorrection("optimize", strength=math.nan), r"^strength .* got nan"),
    (lambda: NoiseCorrection("optimize", steps=0), r"^steps must be 1 or more, got 0"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_an_argument_out_of_range_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
