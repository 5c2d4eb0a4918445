"""Advice in tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from renoise.evaluation.convergence.advice import RESIDUAL, Advice, StepAdvice
from renoise.evaluation.convergence.round_trips import RoundTrip


def table_of_steps(steps: Sequence[StepAdvice]) -> Table:
    """Returns a table for the terminal of how renoising converges at each step."""
    table = Table(title="How renoising converges (medians over images)")
    for title in ("step t", "contraction per call", "cosine", "averaging two", f"calls to residual {RESIDUAL:g}"):
        table.add_column(title, justify="right")
    for step in steps:
        calls = "does not converge" if math.isinf(step.calls) else f"{step.calls:.0f}"
        numbers = (f"{value:.2f}" for value in (step.contraction, step.cosine, step.averaging))
        table.add_row(f"{step.timestep:g}", *(_dash(number) for number in numbers), calls)
    return table


def table_of_round_trips(advice: Advice) -> Table:
    """Returns a table for the terminal of what each setting reaches and costs."""
    table = Table(title="Round trips (means over images)")
    table.add_column("setting", no_wrap=True)
    for title in ("NFE per image", "PSNR (dB)", "latent MSE", "seconds per image"):
        table.add_column(title, justify="right")
    for each in advice.all:
        mark = " ✓" if each.reaches(advice.wanted) else "  "
        psnr = f"{each.psnr:.2f}{mark}"
        table.add_row(each.name, f"{each.nfe:.0f}", psnr, f"{each.latent_mse:.2e}", f"{each.seconds:.3f}")
    return table


def sentences(advice: Advice, steps: Sequence[StepAdvice], wanted: float | None) -> Iterator[str]:
    """Yields the advice, a line each.

    Args:
        advice: What was found.
        steps: How renoising converges.
        wanted: The PSNR that the user wants, in dB. None where they do not say.
    """
    if wanted is not None and wanted > advice.ceiling:
        yield (
            f"No inversion reaches {wanted:.2f} dB: the autoencoder alone has {advice.ceiling:.2f} dB. What follows is "
            f"for {advice.wanted:.2f} dB."
        )
    else:
        yield f"Wanted: {advice.wanted:.2f} dB. The autoencoder alone has {advice.ceiling:.2f} dB."
    yield _iterations(advice)
    if advice.unregularized is not None:
        yield (
            f"Without regularization, {advice.plain[-1].name} has {advice.unregularized.psnr:.2f} dB. Regularization "
            "costs reconstruction and makes edits better."
        )
    if advice.tolerant is not None:
        yield f"Tolerance: images that stop early take {_cost(advice.tolerant)}: {advice.tolerant.options}"
    if advice.averaged is not None:
        yield _averaging(advice, advice.averaged, steps)
    yield _acceleration(advice)
    if advice.best is None:
        yield "Nothing that was tried reaches it. More steps (--model.num_inference_steps) make each step easier."
    else:
        options = advice.best.options
        how = f"Add to the command of renoise predict:\n  {options}" if options else "Keep the settings as they are."
        yield f"Advice for reconstruction: {advice.best.name}, {_cost(advice.best)}. {how}"


def _iterations(advice: Advice) -> str:
    found = advice.first(advice.plain)
    if found is None:
        last = advice.plain[-1]
        return (
            f"Iterations: no K up to {last.name.removeprefix('K = ')} reaches it; {last.name} has {last.psnr:.2f} dB."
        )
    return f"Iterations: {found.name} is the first that reaches it, for {_cost(found)}: {found.options}"


def _averaging(advice: Advice, averaged: RoundTrip, steps: Sequence[StepAdvice]) -> str:
    alone = advice.plain[-1]
    helps = averaged.latent_mse < alone.latent_mse
    where = [f"{step.timestep:g}" for step in steps if step.averaging < 1]
    reason = (
        f"two successive estimates average to a better one at t = {', '.join(where)}"
        if where
        else "successive increments point in similar directions, so older estimates are farther away"
    )
    return (
        f"Averaging {'helps' if helps else 'does not help'}: latent MSE {averaged.latent_mse:.2e} with it and "
        f"{alone.latent_mse:.2e} without at {alone.name}; {reason}."
    )


def _acceleration(advice: Advice) -> str:
    found, plain = advice.first(advice.fast), advice.first(advice.plain)
    if not advice.fast:
        return "Acceleration: the sampler cannot work with it."
    if found is None:
        last = advice.fast[-1]
        return f"Acceleration: {last.name} do not reach it: {last.psnr:.2f} dB."
    if plain is not None and plain.nfe <= found.nfe:
        return f"Acceleration: Anderson needs as many calls ({found.nfe:.0f}) as plain renoising here."
    against = "what plain renoising does not reach" if plain is None else f"plain renoising needs {plain.nfe:.0f} calls"
    return f"Acceleration: Anderson reaches it for {_cost(found)}; {against}."


def _cost(trip: RoundTrip) -> str:
    return f"{trip.nfe:.0f} calls and {trip.seconds:.2f} s an image"


def _dash(number: str) -> str:
    return "–" if number == "nan" else number
