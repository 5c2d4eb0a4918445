"""Data whose noise is known in closed form, so that renoising can be compared with what theory says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Renoising
from renoise.core.step import Step
from renoise.evaluation.convergence.increments import renoising_of

SHIFT = 2.0
"""a of the shifted Gaussian N(a, I)."""
CALLS = 10
SIZE = (1, 4, 8, 8)


def ode_errors(time: float = 0.5, length: float = 0.25) -> list[float]:
    """Returns the errors of the estimates of one Euler step of the shifted Gaussian's probability flow.

    The supplement's toy (section 1.1): dz/dt = −a · e^(−t) does not depend on z. Reversal evaluates it at the end of
    the step that it knows, t, which is wrong. One renoising iteration evaluates it at t + Δt, which is exact.

    Args:
        time: t of the known latents.
        length: Δt.

    Returns:
        ‖zᵏ − z*‖ / √dimension of reversal (k = 1) and of one and two renoising iterations (k = 2, 3).
    """
    known = torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = known - SHIFT * math.exp(-(time + length)) * length
    reversal = known - SHIFT * math.exp(-time) * length
    step = Step(timestep=time + length, phi=1.0, psi=length, rho=0.0, input_scale=1.0, signal=1.0, sigma=1.0)
    slope = torch.full(SIZE, SHIFT * math.exp(-(time + length)), dtype=torch.float64)
    renoising = renoising_of(StepEquation(step, known, lambda latents, index: slope))
    estimates = [reversal]
    for _ in range(2):
        estimates.append(renoising(estimates[-1], torch.tensor([0])))
    return [_error(estimate, exact) for estimate in estimates]


def ddim_step(level: float, cleaner: float) -> Step:
    """Returns DDIM's step between two noise levels.

    Args:
        level: sigma of z_t, in (0, 1).
        cleaner: sigma of z_{t-1}, in [0, level).
    """
    signal, cleaner_signal = math.sqrt(1 - level**2), math.sqrt(1 - cleaner**2)
    phi = cleaner_signal / signal
    return Step(level, phi, cleaner - phi * level, rho=0.0, input_scale=1.0, signal=signal, sigma=level)


def contraction(step: Step, variance: float) -> float:
    """Returns |∂G/∂z| of DDIM for data N(a, variance · I): a number, because ε is linear in z.

    The posterior mean of the noise is ε = sigma · (z − signal · a) / (signal² · variance + sigma²).

    Args:
        step: The step.
        variance: Of the data.
    """
    slope = step.sigma / (step.signal**2 * variance + step.sigma**2)
    return abs(step.psi / step.phi) * slope


def ddim_errors(step: Step, variance: float, calls: int = CALLS) -> tuple[list[float], list[float]]:
    """Returns the errors of renoising a DDIM step for data N(a, variance · I), as `Renoising` has them.

    Args:
        step: The step.
        variance: Of the data.
        calls: Number of estimates.

    Returns:
        The errors ‖zᵏ − z*‖ / √dimension of z⁰ … zⁿ, and those of the averages of z¹ … zᵏ for k = 1 … n.
    """
    previous = torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slope = step.sigma / (step.signal**2 * variance + step.sigma**2)
    estimates: list[torch.Tensor] = []

    def predict(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        estimates.append(latents)
        return slope * (latents - step.signal * SHIFT)

    equation = StepEquation(step, previous, predict)
    estimates.append(Renoising().solve(equation, [0.0] * (calls - 1) + [1.0]).latents)
    ratio = -step.psi / step.phi * slope  # G(z) = ratio · z + constant
    exact = (previous / step.phi - ratio * step.signal * SHIFT) / (1 - ratio)
    averages = [torch.stack(estimates[1 : count + 1]).mean(0) for count in range(1, calls + 1)]
    return [_error(each, exact) for each in estimates], [_error(each, exact) for each in averages]


def geometric_averages(ratio: float, first: float, calls: int = CALLS) -> list[float]:
    """Returns the errors of the averages in closed form, e₀ · c · (1 − cᵏ) / (k · (1 − c)) for k = 1 … n.

    Args:
        ratio: c, with eᵏ = c · eᵏ⁻¹.
        first: e₀.
        calls: n.
    """
    counts: Sequence[int] = range(1, calls + 1)
    return [abs(first * ratio * (1 - ratio**count) / (count * (1 - ratio))) for count in counts]


def _error(estimate: torch.Tensor, exact: torch.Tensor) -> float:
    return float((estimate - exact).square().mean().sqrt())
