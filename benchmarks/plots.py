"""Figures of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float, str]]
"""x, y and what to write beside them."""
DOTS_PER_INCH = 90


def plot_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]], x_label: str, y_label: str) -> None:
    """Writes a PNG of curves side by side, all under the same axes.

    Args:
        path: of the file.
        panels: by title, from left to right; in each the curves by name. A name has one color in all of them.
        x_label: of the axis under each panel.
        y_label: of the axis that they share.
    """
    figure = Figure(figsize=(1 + 3.6 * len(panels), 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    handles = {}
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, curve in curves.items():
            color = f"C{names.index(name)}"
            x, y, notes = zip(*curve, strict=True)
            (handles[name],) = axis.plot(x, y, color=color, marker="o", markersize=3, linewidth=1)
            for at, note in zip(zip(x, y, strict=True), notes, strict=True):
                axis.annotate(note, at, xytext=(3, 3), textcoords="offset points", fontsize=6, color=color)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(x_label, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(linewidth=0.3)
    axes[0].set_ylabel(y_label, fontsize=8)
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=len(names), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})  # the same numbers are the same bytes, whatever the version
