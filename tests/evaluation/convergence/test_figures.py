"""Figures: the same numbers give the same bytes, and one image has no bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from renoise.evaluation.convergence import figures
from renoise.evaluation.convergence.tables import COLUMNS, increments_table


def rows(images: Sequence[str]) -> list[dict[str, Any]]:
    curve = [1.0, 0.5, 0.25]
    step = {"increments": curve, "residuals": curve, "distances": curve, "average_distances": curve}
    step |= {"cosines": [0.9, -0.5], "pair_distances": [0.7, 0.4], "reference_residual": 1e-6, "norms": []}
    steps = [{**step, "position": position, "t": float(100 * position)} for position in (0, 1)]
    return [{"file_name": name, "steps": steps} for name in images]


def norms(images: Sequence[str]) -> pd.DataFrame:
    values = [[name, 0, t, k, 0.5 + 0.1 * k, 0.01, 5, 0.6] for name in images for t in (1.0, 501.0) for k in (0, 1)]
    return pd.DataFrame(values, columns=COLUMNS)


PLOTS: dict[str, Callable[[Path, Sequence[str]], None]] = {
    "increments": lambda path, images: figures.plot_increments(path, increments_table(rows(images))),
    "cosines": lambda path, images: figures.plot_cosines(path, increments_table(rows(images))),
    "averages": lambda path, images: figures.plot_averages(path, increments_table(rows(images))),
    "jacobian": lambda path, images: figures.plot_norms(path, norms(images)),
    "toy": lambda path, images: figures.plot_toy(path),
}


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_the_same_numbers_give_the_same_bytes(plot: Callable[..., None], tmp_path: Path) -> None:
    for name in ("first", "second"):
        plot(tmp_path / name, ["a.png", "b.png"])
    for suffix in (".png", ".pdf"):
        assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
    with Image.open(tmp_path / "first.png") as picture:
        assert picture.width <= 7.5 * 150  # as wide as a page


def test_one_image_is_drawn_too(tmp_path: Path) -> None:
    PLOTS["increments"](tmp_path / "one", ["a.png"])
    assert (tmp_path / "one.png").stat().st_size > 0
