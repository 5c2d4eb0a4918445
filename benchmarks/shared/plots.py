"""Figures of curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float, str]]
"""Points: x, y and the text beside the point."""
DOTS_PER_INCH = 90
MAX_PANELS_IN_ROW = 4


def plot_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]], x_label: str, y_label: str) -> None:
    """Writes a PNG of panels in rows, with the same axes. The same numbers give the same bytes.

    Args:
        path: The file. Its folder is created if necessary.
        panels: By title, row by row. Each holds curves by name. A name has the same color in every panel.
        x_label: Label of the x-axes.
        y_label: Label of the y-axes.
    """
    columns = min(len(panels), MAX_PANELS_IN_ROW)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 0.4 + 3 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for unused in grid.flat[len(panels) :]:
        unused.remove()
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    handles = {}
    for axis, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for name, curve in curves.items():
            color = f"C{names.index(name)}"
            x, y, notes = zip(*curve, strict=True)
            (handles[name],) = axis.plot(x, y, color=color, marker="o", markersize=3, linewidth=1)
            for point, note in zip(zip(x, y, strict=True), notes, strict=True):
                axis.annotate(note, point, xytext=(3, 3), textcoords="offset points", fontsize=6, color=color)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(x_label, fontsize=8)
        axis.tick_params(labelsize=7, labelbottom=True)
        axis.grid(linewidth=0.3)
    for axis in grid[:, 0]:
        axis.set_ylabel(y_label, fontsize=8)
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=len(names), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})  # matplotlib's version would change the bytes
