"""Figures of curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float, str]]
"""Points: x, y and the text beside the point."""
DOTS_PER_INCH = 90


def plot_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]], x_label: str, y_label: str) -> None:
    """Writes a PNG of panels side by side with the same axes. The same numbers give the same bytes.

    Args:
        path: The file. Its folder is created if necessary.
        panels: By title, from left to right. Each holds curves by name. A name has the same color in every panel.
        x_label: Label of the x-axes.
        y_label: Label of the y-axis.
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
            for point, note in zip(zip(x, y, strict=True), notes, strict=True):
                axis.annotate(note, point, xytext=(3, 3), textcoords="offset points", fontsize=6, color=color)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(x_label, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(linewidth=0.3)
    axes[0].set_ylabel(y_label, fontsize=8)
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=len(names), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})  # matplotlib's version would change the bytes
