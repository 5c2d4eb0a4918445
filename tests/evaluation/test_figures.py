from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from renoise.evaluation import figures
from renoise.evaluation.figures import plot_over_nfe
from renoise.metrics import METRICS

SHOWN = {name: METRICS[name] for name in ("psnr", "latent_mse")}


def summary(*points: tuple[str, str, int, float]) -> pd.DataFrame:
    """A summary of methods of (curve, method, NFE, PSNR), each over four images of standard deviation 2."""
    rows = [
        {"curve": curve, "method": method, "result": "reconstruction", "nfe": nfe, "psnr": psnr}
        | {"psnr_std": 2.0, "psnr_count": 4, "latent_mse": np.nan}
        for curve, method, nfe, psnr in points
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would be written."""
    found: list[Figure] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: found.append(figure))
    return found


def test_a_curve_joins_its_methods_with_standard_errors_as_error_bars(drawn: list[Figure]) -> None:
    table = summary(("steps", "steps 8", 8, 20.0), ("steps", "steps 4", 4, 10.0), ("alone", "alone", 6, 15.0))
    assert plot_over_nfe(Path("x"), table, SHOWN, {}, "")
    (axis,) = drawn[0].axes  # latent MSE was not measured
    steps, alone = axis.containers
    line, _, (bars,) = steps
    assert np.column_stack(line.get_data()).tolist() == [[4, 10], [8, 20]]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[9, 11], [19, 21]]  # 2 / sqrt(4)
    assert (steps.get_label(), alone.get_label()) == ("steps", "alone")
    assert axis.get_ylabel() == "PSNR (dB)"


def test_others_numbers_are_hollow_and_named_in_the_legend(drawn: list[Figure]) -> None:
    table = summary(("a", "a", 4, 10.0), ("b", "b", 8, 20.0))
    assert plot_over_nfe(Path("x"), table, SHOWN, {"b": {"psnr": 26.0}}, "a paper")
    (axis,) = drawn[0].axes
    hollow: list[Any] = [line for line in axis.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    assert [np.column_stack(line.get_data()).tolist() for line in hollow] == [[[8, 26]]]
    (legend,) = drawn[0].legends
    assert "others' numbers: a paper" in [text.get_text() for text in legend.get_texts()]


def test_methods_of_one_number_of_calls_have_no_figure(drawn: list[Figure]) -> None:
    assert not plot_over_nfe(Path("x"), summary(("a", "a", 4, 10.0), ("b", "b", 4, 20.0)), SHOWN, {}, "")
    assert not drawn


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert plot_over_nfe(tmp_path / name, summary(("a", "a", 4, 10.0), ("b", "b", 8, 20.0)), SHOWN, {}, "")
    for kind in ("png", "pdf"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width >= 500
