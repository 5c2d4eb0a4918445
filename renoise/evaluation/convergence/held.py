"""Flow matching: how fast renoising converges with v held fixed, as it is, and with ε held fixed, as elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Renoising
from renoise.evaluation.convergence.rates import contraction

GAUSSIAN = ("gaussian_v", "gaussian_noise")


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


def gaussian_contractions(sigma: float, psi: float, variance: float) -> tuple[float, float]:
    """Returns |∂G/∂z| for data N(a, variance · I), with v held fixed and with ε held fixed; see `Step.held`.

    Args:
        sigma: σ of a step of flow matching from σ to σ'.
        psi: σ' − σ.
        variance: s² of the data.

    Example:
        >>> from renoise.evaluation.convergence.held import gaussian_contractions
        >>> [round(value, 3) for value in gaussian_contractions(sigma=27 / 28, psi=-1 / 28, variance=1.0)]
        [0.036, 0.518]
    """
    signal, cleaner = 1 - sigma, sigma + psi
    variance_of_latents = signal**2 * variance + sigma**2
    with_v = abs(psi * (sigma - signal * variance)) / variance_of_latents
    return with_v, abs(psi) / (1 - cleaner) * sigma / variance_of_latents


def held_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns a row for each measured step but the first: `t`, `sigma`, and contractions by what is held fixed.

    All are medians over the images: `v` and `noise`, see `contraction`, and `gaussian_v` and `gaussian_noise`, the
    closed forms for data N(a, s² I), where s² is the variance of an image's latents. Empty for other models than those
    of flow matching.

    Args:
        rows: Of the images that were measured.
    """
    table = pd.DataFrame(
        {
            "position": step["position"],
            "t": step["t"],
            "sigma": step["sigma"],
            "v": contraction(step["residuals"]),
            "noise": contraction(step["noise_residuals"]),
            **dict(zip(GAUSSIAN, gaussian_contractions(step["sigma"], step["psi"], row["variance"]), strict=True)),
        }
        for row in rows
        for step in row["steps"]
        if step["noise_residuals"]
    )
    return table.groupby("position", sort=True).median().reset_index() if len(table) else table
