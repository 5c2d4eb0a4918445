"""The figures of an evaluation: metrics over network calls, with error bars, as PNG and PDF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from renoise.evaluation.plotting import COLORS, MARKERS, save
from renoise.evaluation.tables import NFE, RECONSTRUCTION
from renoise.metrics.base import AnyMetric

PAGE_WIDTH = 7.0
"""Of two panels, in inches."""


def plot_over_nfe(
    path: Path,
    table: pd.DataFrame,
    metrics: Mapping[str, type[AnyMetric]],
    reference: Mapping[str, Mapping[str, float]],
    source: str,
) -> bool:
    """Writes a panel for each metric of reconstructions, with a curve for each group of methods.

    Error bars are standard errors of the mean over images. A method that stands alone is a point.

    Args:
        path: Without a suffix.
        table: See `tables.summary`.
        metrics: Titles by column. Those that were not measured have no panel.
        reference: Others' means, {method: {metric: mean}}, drawn as hollow markers at the NFE of our own.
        source: Where those are from.

    Returns:
        Whether there was anything to draw: two different numbers of network calls.
    """
    rebuilt = table[table["result"] == RECONSTRUCTION]
    shown = [name for name in metrics if name in rebuilt and rebuilt[name].notna().any()]
    if not shown or rebuilt[NFE].nunique() < 2:
        return False
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(PAGE_WIDTH * columns / 2, 0.6 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for unused in panels.flat[len(shown) :]:
        unused.remove()
    for axis, name in zip(panels.flat, shown, strict=False):
        _draw(axis, rebuilt, name, reference)
        axis.set_xlabel("network calls of the inversion, per image", fontsize=8)
        axis.set_ylabel(metrics[name].title, fontsize=8)
        if "mse" in name:
            axis.set_yscale("log")
        axis.tick_params(which="both", labelsize=7)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    if any(name in values for name in shown for values in reference.values()):
        labels = [label if label != "others" else f"others' numbers: {source}" for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save(figure, path)
    return True


def _draw(axis: Axes, rebuilt: pd.DataFrame, name: str, reference: Mapping[str, Mapping[str, float]]) -> None:
    """Draws the curves of one metric into a panel."""
    for position, (curve, group) in enumerate(rebuilt.groupby("curve", sort=False)):
        points = group.sort_values(NFE)
        errors = points[f"{name}_std"] / points[f"{name}_count"] ** 0.5
        color, marker = COLORS[position % len(COLORS)], MARKERS[position % len(MARKERS)]
        axis.errorbar(
            points[NFE],
            points[name],
            yerr=errors.fillna(0),
            label=str(curve),
            color=color,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
        theirs = points["method"].map(lambda method: reference.get(method, {}).get(name, math.nan))
        if theirs.notna().any():
            axis.plot(points[NFE], theirs, linestyle="none", marker=marker, markersize=7, mfc="none", mec=color)
    if any(name in values for values in reference.values()):
        axis.plot([], [], linestyle="none", marker="o", markersize=7, mfc="none", mec="gray", label="others")
    axis.grid(linewidth=0.3)
