"""A budget of network calls, which goes to the steps where the residual is largest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from renoise.core.fixed_point import Solution, Stop
from renoise.core.step import Step

KEPT_SHARE = 0.75
"""Least share of an equal part that is kept for a step that starts cold or draws noise. Its need is hard to foresee."""
CONTRACTION_RANGE = (0.05, 0.95)


class CallBudget:
    """Shares evaluations of G among the steps of one inversion, for each image by itself.

    How fast a step converges follows from its noise levels, roughly. With s = sigma / signal, G contracts by about
    c = 1 − s_{t-1} / s_t, because ∂ε/∂z is about 1 / sigma. With flow matching, v is held, ∂v/∂z is about 1 / sigma,
    and c = 1 − sigma_{t-1} / sigma_t. An image leaves a step once the steps after it would need all
    evaluations that are left to reach the same residual.

    Args:
        steps: The steps that are solved, noisiest first.
        evaluations: Evaluations of G for each image, at least one for each step.
        batch_size: B.
        device: Of the images.
        warm: Whether the steps have a warm start.
        most: Most evaluations that each step can use. None is no limit.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        evaluations: int,
        batch_size: int,
        device: torch.device,
        warm: bool,
        most: Sequence[int] | None = None,
    ) -> None:
        self.steps = list(steps)
        self.left = torch.full((batch_size,), evaluations, dtype=torch.int64, device=device)
        reserve = math.ceil(KEPT_SHARE * (evaluations // len(self.steps)))
        self.most = [evaluations] * len(self.steps) if most is None else list(most)
        wanted = [1 if warm and step.rho == 0 else reserve for step in self.steps]
        self.reserves = [min(pair) for pair in zip(wanted, self.most, strict=True)]

    def stop(self, step: Step) -> Stop:
        """Returns the stopping test of one step."""
        position = self.steps.index(step)
        rates = [-math.log(contraction(noisier)) for noisier in self.steps[:position]]
        bounds = list(zip(self.reserves, self.most, strict=True))[:position]
        first = torch.zeros(len(self.left), dtype=torch.float32, device=self.left.device)

        def stop(residual: torch.Tensor, evaluations: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            first[index] = torch.where(evaluations == 1, residual.float(), first[index])
            fall = (first[index] / residual).log()
            needed = torch.zeros_like(fall)
            for rate, (reserve, most) in zip(rates, bounds, strict=True):
                needed += (1 + fall / rate).clamp(reserve, most)
            return ~(self.left[index] - evaluations > needed)  # stops where the residual is NaN, too

        return stop

    def spend(self, solution: Solution) -> None:
        """Takes off what a step has used."""
        self.left -= solution.iterations


def contraction(step: Step) -> float:
    """Returns about how much one renoising iteration reduces the error of a step: 1 − s_{t-1} / s_t, see `CallBudget`.

    Example:
        >>> from renoise import Step
        >>> from renoise.core.budget import contraction
        >>> step = Step(timestep=500, phi=1.0, psi=-1.0, rho=0.0, input_scale=1.0, signal=1.0, sigma=4.0)  # s: 4 to 3
        >>> contraction(step)
        0.25
    """
    cleaner_signal, cleaner_sigma = step.cleaner_level
    least, most = CONTRACTION_RANGE
    if step.flow:
        ratio = cleaner_sigma / step.sigma
    elif step.sigma * cleaner_signal == 0:
        return most
    else:
        ratio = (cleaner_sigma * step.signal) / (cleaner_signal * step.sigma)
    return min(max(1 - ratio, least), most)
