"""What to choose for a model: a few settings are tried, from cheap to expensive, until one reaches the wanted PSNR."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from renoise.core.anderson import Anderson
from renoise.core.renoise import AveragingWeights
from renoise.evaluation.convergence.rates import averaging_factor, contraction, mean_cosine
from renoise.evaluation.convergence.round_trips import RoundTrip, RoundTrips

ITERATIONS = (0, 1, 2, 4, 9, 19)
"""K that are tried in turn."""
MAX_CALLS = 250
"""No K is tried that takes more network calls of an image, except 0 and 1."""
MARGIN = 0.1
"""dB below the autoencoder's own round trip that are wanted where the user does not say."""
TEMPERATURE = 0.1
"""Of latents that are drawn, as the presets have it."""
RESIDUAL = 1e-3
"""The residual for which the table of steps gives the number of calls."""
PLAIN: Mapping[str, Any] = {
    **dict.fromkeys(("averaging_weights", "tolerance", "solver", "max_nfe")),
    **{"warm_start": False, "stochastic_steps": "solve", "temperature": 1.0},
}
"""Algorithm 1 without averaging. Regularization and noise correction stay as they are given."""
FAST: Mapping[str, Any] = {
    **dict.fromkeys(("averaging_weights", "tolerance", "iterations", "regularization", "noise_correction")),
    **{"stochastic_iterations": None, "solver": Anderson()},
}


@dataclass(frozen=True)
class StepAdvice:
    """How renoising converges at one step: medians over the images.

    Args:
        timestep: t.
        contraction: Factor from one increment to the next. NaN where rounding leaves nothing to measure.
        cosine: Of successive increments.
        averaging: See `averaging_factor`.
        calls: Network calls to the residual `RESIDUAL`. Infinite where renoising does not converge.
    """

    timestep: float
    contraction: float
    cosine: float
    averaging: float
    calls: float


@dataclass(frozen=True)
class Advice:
    """What was found.

    Args:
        ceiling: PSNR of the autoencoder's own round trip, in dB.
        wanted: The PSNR that was looked for, in dB.
        plain: Algorithm 1 with growing K.
        fast: Anderson acceleration with the same network calls.
        averaged: The last of `plain` with averaging.
        unregularized: The last of `plain` without the given regularization. None where it has none.
        tolerant: One that reaches the PSNR with a tolerance, which stops images early. None where none does.
    """

    ceiling: float
    wanted: float
    plain: Sequence[RoundTrip]
    fast: Sequence[RoundTrip]
    averaged: RoundTrip | None
    unregularized: RoundTrip | None
    tolerant: RoundTrip | None

    @property
    def all(self) -> list[RoundTrip]:
        """All round trips, in the order of the table."""
        others = (self.averaged, self.unregularized, self.tolerant)
        return [*self.plain, *filter(None, others), *self.fast]

    def first(self, of: Sequence[RoundTrip]) -> RoundTrip | None:
        """Returns the first round trip that reaches the wanted PSNR."""
        return next((each for each in of if each.reaches(self.wanted)), None)

    @property
    def best(self) -> RoundTrip | None:
        """The cheapest of all that reach the wanted PSNR; of several, the most exact one."""
        good = [each for each in self.all if each.reaches(self.wanted)]
        return min(good, key=lambda each: (each.nfe, each.latent_mse), default=None)


def find_advice(trips: RoundTrips, wanted: float | None) -> Advice:
    """Tries settings until one reaches the wanted PSNR.

    Args:
        trips: Runs them.
        wanted: PSNR in dB. None, or one above the autoencoder's, takes `MARGIN` below the autoencoder's.
    """
    ceiling = trips.ceiling()
    target = ceiling - MARGIN if wanted is None or wanted > ceiling else wanted
    steps = len(trips.pipeline.inversion_schedule)
    tried = [count for count in ITERATIONS if count <= 1 or steps * (count + 1) <= MAX_CALLS]
    plain, fast = list(_plain(trips, target, tried)), list(_fast(trips, target, tried))
    last = tried[len(plain) - 1]
    averaged = None
    if last > 0:
        weights = trips.base["averaging_weights"] or AveragingWeights(below=[0.5, 0.5], above=[0.5, 0.5])
        changes = {**PLAIN, "iterations": last, "averaging_weights": weights}
        averaged = trips.run(f"K = {last}, averaging", changes)
    unregularized = tolerant = None
    if trips.base["regularization"] is not None and not plain[-1].reaches(target):
        unregularized = trips.run(
            f"K = {last}, no regularization", {**PLAIN, "iterations": last, "regularization": None}
        )
    if last > 0 and plain[-1].reaches(target):
        tolerant = _tolerant(trips, target, last, plain[-1].residual)
    return Advice(ceiling, target, plain, fast, averaged, unregularized, tolerant)


def _tolerant(trips: RoundTrips, wanted: float, last: int, residual: float) -> RoundTrip | None:
    """Returns the first round trip that reaches the PSNR with a tolerance: about the residual of the last K, or less.

    The noisiest steps have the largest residuals and matter least, so that residual may be too large for the others.
    """
    for tolerance in (residual, residual / 4, residual / 16):
        rounded = float(f"{tolerance:.1g}")
        if rounded > 0:
            changes = {**PLAIN, "iterations": 2 * last + 1, "tolerance": rounded}
            found = trips.run(f"tolerance {rounded:g}", changes)
            if found is not None and found.reaches(wanted):
                return found
    return None


def _plain(trips: RoundTrips, wanted: float, tried: Sequence[int]) -> Iterator[RoundTrip]:
    """Yields the round trips of growing K, the last of which reaches the PSNR, if any does."""
    for count in tried:
        found = trips.run(f"K = {count}", {**PLAIN, "iterations": count})
        if found is not None:
            yield found
            if found.reaches(wanted):
                return


def _fast(trips: RoundTrips, wanted: float, tried: Sequence[int]) -> Iterator[RoundTrip]:
    """Yields the same with Anderson acceleration, a budget of as many network calls, and what goes with them."""
    schedule, guidance_scale = trips.pipeline.inversion_schedule, trips.pipeline.guidance_scale
    nfe = 1 if guidance_scale == 1 or trips.pipeline.model.takes_guidance_scale else 2
    changes = {**FAST, "warm_start": True, "stochastic_steps": "solve", "temperature": 1.0}
    if schedule.is_stochastic:
        changes |= {"warm_start": False, "stochastic_steps": "posterior", "temperature": TEMPERATURE}
    for count in tried:
        calls = nfe * len(schedule) * (count + 1)
        found = trips.run(f"Anderson, {calls} calls", {**changes, "max_nfe": calls})
        if found is not None:
            yield found
            if found.reaches(wanted):
                return


def advise_on_steps(rows: Sequence[Mapping[str, Any]]) -> list[StepAdvice]:
    """Returns how renoising converges at each measured step, noisiest first.

    Args:
        rows: Of the images; see `StepRecord.row`.
    """
    steps: dict[float, list[dict[str, Any]]] = {}
    for row in rows:
        for step in row["steps"]:
            steps.setdefault(step["t"], []).append(step)
    advice = []
    for t, of_images in sorted(steps.items(), reverse=True):
        rate = _median(contraction(step["residuals"]) for step in of_images)
        curves = zip(*(step["residuals"] for step in of_images), strict=True)
        residuals = [statistics.median(values) for values in curves]
        advice.append(
            StepAdvice(
                t,
                rate,
                _median(map(mean_cosine, of_images)),
                _median(map(averaging_factor, of_images)),
                calls_to(RESIDUAL, residuals, rate),
            )
        )
    return advice


def calls_to(wanted: float, residuals: Sequence[float], rate: float) -> float:
    """Returns the number of network calls to a residual: counted, or extrapolated by the contraction.

    Args:
        wanted: The residual.
        residuals: Of the calls so far.
        rate: The contraction.

    Returns:
        Infinity where renoising does not converge.

    Example:
        >>> from renoise.evaluation.convergence.advice import calls_to
        >>> calls_to(0.1, [1.0, 0.3, 0.05], 0.3), calls_to(0.01, [1.0, 0.5, 0.25], 0.5)
        (3, 8)
    """
    for count, residual in enumerate(residuals, start=1):
        if residual <= wanted:
            return count
    if not 0 < rate < 1:
        return math.inf
    return len(residuals) + math.ceil(math.log(wanted / residuals[-1]) / math.log(rate))


def _median(values: Iterator[float] | map[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return statistics.median(found) if found else math.nan
