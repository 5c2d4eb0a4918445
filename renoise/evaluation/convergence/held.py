"""Flow matching: how fast renoising converges with v held fixed, as it is, and with ε held fixed, as elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.evaluation.convergence.rates import contraction


def residuals_with_noise_held(equation: StepEquation, count: int) -> torch.Tensor | None:
    """Returns the residuals of renoising that holds ε fixed, [count, B]; see `StepEquation.residual`.

    Args:
        equation: Of a step of flow matching.
        count: Number of network calls.

    Returns:
        None at σ = 1, where v does not determine ε.
    """
    step = replace(equation.step, flow=False)
    if step.noise_from_prediction == 0:
        return None
    residuals: list[torch.Tensor] = []

    def never(residual: torch.Tensor, calls: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        residuals.append(residual)
        return torch.zeros_like(residual, dtype=torch.bool)

    Renoising().solve(replace(equation, step=step), [0.0] * (count - 1) + [1.0], stop=never)
    return torch.stack(residuals)


def gaussian_contractions(step: Step, variance: float) -> tuple[float, float]:
    """Returns |∂G/∂z| for data N(a, variance · I), with v held fixed and with ε held fixed; see `Step.held`.

    Args:
        step: A step of flow matching from σ to σ'.
        variance: s² of the data.

    Example:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> from renoise import Schedule
        >>> from renoise.evaluation.convergence.held import gaussian_contractions
        >>> step = Schedule.from_scheduler(FlowMatchEulerDiscreteScheduler(shift=3.0), 28).steps[1]
        >>> [round(value, 3) for value in gaussian_contractions(step, variance=1.0)]
        [0.013, 0.519]
    """
    width = abs(step.psi)  # σ − σ'
    variance_of_latents = step.signal**2 * variance + step.sigma**2
    cleaner = step.sigma - width
    with_v = width * abs(step.sigma - step.signal * variance) / variance_of_latents
    return with_v, width / (1 - cleaner) * step.sigma / variance_of_latents


def held_table(rows: Sequence[Mapping[str, Any]], schedule: Schedule) -> pd.DataFrame:
    """Returns a row for each measured step but the first: `t`, `sigma`, and contractions by what is held fixed.

    Columns `v` and `noise` are medians over the images, see `contraction`; `gaussian_v` and `gaussian_noise` are closed
    forms for data N(a, s² I), where s² is the mean variance of the images' latents. Empty for other models.

    Args:
        rows: Of the images that were measured.
        schedule: The steps of the inversion.
    """
    if not all(step.flow for step in schedule):
        return pd.DataFrame()
    variance = pd.Series([row["variance"] for row in rows]).mean()
    table = pd.DataFrame(
        {
            "position": step["position"],
            "v": contraction(step["residuals"]),
            "noise": contraction(step["noise_residuals"]),
        }
        for row in rows
        for step in row["steps"]
        if step["noise_residuals"]
    )
    medians = table.groupby("position", sort=True).median().reset_index()
    steps = [schedule.steps[int(position)] for position in medians["position"]]
    closed = [gaussian_contractions(step, variance) for step in steps]
    return medians.assign(
        t=[step.timestep for step in steps],
        sigma=[step.sigma for step in steps],
        gaussian_v=[with_v for with_v, _ in closed],
        gaussian_noise=[with_noise for _, with_noise in closed],
    )
