"""The figures of the suite `convergence`, as PNG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from renoise.evaluation.convergence import toy
from renoise.evaluation.convergence.rates import ROUNDING
from renoise.evaluation.plotting import COLORS, MARKERS, save

ONE, TWO = (5.2, 3.4), (7.2, 3.6)
"""Sizes of figures of one panel and of two, in inches."""
VARIANCE = 0.04
"""Of the toy's second data."""
LEVELS = ((0.9, 0.75), (0.6, 0.4), (0.3, 0.1))
"""sigma before and after each DDIM step of the toy."""


def plot_increments(path: Path, table: pd.DataFrame) -> None:
    """Draws ‖zᵏ⁺¹ − zᵏ‖ over k for each step, on a logarithmic axis.

    Args:
        path: Without a suffix.
        table: See `increments_table`.
    """
    figure, (axis,) = _figure(1)
    _curves(axis, table, "increment")
    axis.set_yscale("log")
    _label(axis, "renoising iteration k", "increment ‖z$^{(k+1)}$ − z$^{(k)}$‖")
    _legend(figure, axis)
    save(figure, path)


def plot_cosines(path: Path, table: pd.DataFrame) -> None:
    """Draws the cosine of successive increments over k for each step, as far as rounding has no part in them."""
    figure, (axis,) = _figure(1)
    _curves(axis, table[(table["k"] > 0) & (table["residual"] > ROUNDING)], "cosine")
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set_ylim(-1.05, 1.05)
    _label(axis, "renoising iteration k", "cosine of increments k − 1 and k")
    _legend(figure, axis)
    save(figure, path)


def plot_averages(path: Path, table: pd.DataFrame) -> None:
    """Draws the distances to the fixed point of the estimates, and of the means of all estimates so far."""
    figure, (left, right) = _figure(2)
    table = table.assign(k=table["k"] + 1)
    _curves(left, table, "distance")
    _curves(right, table, "average_distance")
    for axis in (left, right):
        axis.set_yscale("log")
    right.sharey(left)
    left.set_title("the estimate", fontsize=9)
    right.set_title("the mean of all estimates so far", fontsize=9)
    _label(left, "number of estimates k", "‖z$^{(k)}$ − z*‖")
    _label(right, "number of estimates k", "‖(z$^{(1)}$ + … + z$^{(k)}$) / k − z*‖")
    _legend(figure, left)
    save(figure, path)


def plot_norms(path: Path, table: pd.DataFrame) -> None:
    """Draws the scaled norm of the Jacobian over t, for each k, with 1 as the limit of a contraction.

    Args:
        path: Without a suffix.
        table: See `norms_table`.
    """
    figure, (axis,) = _figure(1)
    for position, (k, group) in enumerate(table.groupby("k", sort=True)):
        means, stds = (group.groupby("t")["norm"].agg(which) for which in ("mean", "std"))
        axis.errorbar(
            means.index,
            means,
            yerr=stds.fillna(0),
            label=f"at z$^{{({k})}}$",
            color=COLORS[position],
            marker=MARKERS[position],
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
    expected = table.groupby("t")["expected"].mean()
    axis.plot(expected.index, expected, color="gray", linestyle="--", linewidth=1, label="|ψ| / (φ · sigma)")
    axis.axhline(1, color="black", linestyle=":", linewidth=1, label="limit of a contraction")
    axis.set_ylim(bottom=0)
    _label(axis, "timestep t", "(|ψ| / φ) · ‖∂ε/∂z‖")
    _legend(figure, axis)
    save(figure, path)


def plot_held(path: Path, table: pd.DataFrame) -> None:
    """Draws contractions over σ with v and with ε held fixed: measured as markers, for Gaussian data as lines.

    Args:
        path: Without a suffix.
        table: See `held_table`.
    """
    figure, (axis,) = _figure(1)
    for position, (name, title) in enumerate((("v", "v held fixed"), ("noise", "ε held fixed"))):
        color = COLORS[position]
        axis.plot(table["sigma"], table[name], color=color, marker=MARKERS[position], linestyle="none", label=title)
        axis.plot(table["sigma"], table[f"gaussian_{name}"], color=color, linewidth=1, label=f"{title}, Gaussian data")
    axis.axhline(1, color="black", linestyle=":", linewidth=1, label="limit of a contraction")
    axis.set_yscale("log")
    _label(axis, "σ", "contraction per iteration")
    _legend(figure, axis, columns=2)
    save(figure, path)


def plot_toy(path: Path) -> None:
    """Draws the errors of renoising for the shifted Gaussian, measured as markers and in closed form as lines."""
    figure, (left, right) = _figure(2)
    names = ["reversal", "1 renoising", "2 renoisings"]
    bars = left.bar(names, toy.ode_errors(), color=COLORS[0])
    left.bar_label(bars, fmt="{:.3f}", fontsize=8)
    left.set_title("one Euler step of the flow of N(a, I)", fontsize=9)
    left.set_ylabel("root mean squared error of z", fontsize=8)
    left.set_ylim(bottom=0)
    for color, marker, levels in zip(COLORS, MARKERS, LEVELS, strict=False):
        step = toy.ddim_step(*levels)
        ratio = toy.contraction(step, VARIANCE)
        errors, averages = toy.ddim_errors(step, VARIANCE)
        counts = range(len(errors))
        label = f"sigma {levels[0]} to {levels[1]}, c = {ratio:.2f}"
        right.plot(counts, errors, color=color, marker=marker, markersize=4, linestyle="none", label=label)
        right.plot(counts, [errors[0] * ratio**count for count in counts], color=color, linewidth=1)
        right.plot(counts[1:], averages, color=color, marker=marker, markersize=4, linestyle="none", mfc="none")
        closed = toy.geometric_averages(ratio, errors[0])
        right.plot(counts[1:], closed, color=color, linewidth=1, linestyle="--")
    right.set_yscale("log")
    right.set_title(f"DDIM steps of N(a, {VARIANCE} I); hollow: averages", fontsize=9)
    _label(right, "renoising iteration k", "root mean squared error of z")
    right.legend(fontsize=7, frameon=False)
    left.tick_params(labelsize=7)
    save(figure, path)


def _figure(panels: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=ONE if panels == 1 else TWO, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False, sharey=False)[0]


def _curves(axis: Axes, table: pd.DataFrame, column: str) -> None:
    """Draws means over images with bands of one standard deviation, a curve for each t, cleanest first."""
    for position, (t, group) in enumerate(table.groupby("t", sort=True)):
        means, stds = (group.groupby("k")[column].agg(which) for which in ("mean", "std"))
        color, marker = COLORS[position % len(COLORS)], MARKERS[position % len(MARKERS)]
        axis.plot(means.index, means, color=color, marker=marker, markersize=3.5, linewidth=1.2, label=f"t = {t:g}")
        least = means[means > 0].min() / 10 if column != "cosine" else -1
        low = (means - stds.fillna(0)).clip(lower=least)
        axis.fill_between(means.index, low, means + stds.fillna(0), color=color, alpha=0.15, linewidth=0)


def _label(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(which="both", labelsize=7)
    axis.grid(linewidth=0.3)


def _legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
