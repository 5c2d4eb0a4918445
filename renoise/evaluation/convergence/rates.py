"""What the curves of one image at one step say: how fast it converges, and whether averaging helps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

ROUNDING = 1e-5
"""Increments with a smaller residual have no part in rates and cosines, because rounding has one in them."""


def contraction(residuals: Sequence[float]) -> float:
    """Returns the factor by which an increment shrinks from one renoising iteration to the next: a geometric mean.

    The first increment is left out: it begins at z_{t-1}, which is at another noise level. So are those that rounding
    has a part in.

    Args:
        residuals: Of one image at one step, for k = 0, 1, ….

    Returns:
        NaN where fewer than two increments are left.

    Example:
        >>> from renoise.evaluation.convergence.rates import contraction
        >>> round(contraction([3.0, 1.0, 0.5, 0.25]), 3)
        0.5
    """
    used = [residual for residual in residuals[1:] if residual > ROUNDING]
    return math.nan if len(used) < 2 else (used[-1] / used[0]) ** (1 / (len(used) - 1))


def averaging_factor(step: Mapping[str, Any]) -> float:
    """Returns the distance to z* of the mean of two successive estimates, relative to that of the later one.

    Below 1, averaging helps. It is the geometric mean over k at one step of one image, without increments that rounding
    has a part in. For errors that shrink by c, it is |1 + 1 / c| / 2: below 1 where c is negative and beyond −1/3.

    Args:
        step: See `StepRecord.row`.

    Returns:
        NaN where there is no such increment.
    """
    later = step["distances"][1:]
    used = [
        math.log(pair / distance)
        for pair, distance, residual in zip(step["pair_distances"], later, step["residuals"][1:], strict=True)
        if pair and distance and residual > ROUNDING
    ]
    return math.exp(sum(used) / len(used)) if used else math.nan


def mean_cosine(step: Mapping[str, Any]) -> float:
    """Returns the mean cosine of successive increments at one step of one image, without those that rounding made.

    Args:
        step: See `StepRecord.row`.
    """
    residuals = step["residuals"][1:]
    used = [cosine for cosine, residual in zip(step["cosines"], residuals, strict=True) if residual > ROUNDING]
    return sum(used) / len(used) if used else math.nan
