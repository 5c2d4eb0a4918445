"""The tables of an evaluation: a row for each image, and means with their spread for each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from renoise.evaluation.runs import MethodRun
from renoise.evaluation.table_files import markdown_table
from renoise.metrics.base import AnyMetric

RECONSTRUCTION = "reconstruction"
"""What stands in the column `result` beside the names of editors."""
FAILURE_PSNR = 15.0
"""Reconstructions below this PSNR in dB count as failures."""
NAMES = ["method", "curve", "result", "result_curve"]
"""The columns that say what a row is about. Methods of one curve differ in one option, and so do results."""
CURVES = ["curve", "result_curve"]
NFE = "nfe"
"""Network calls of the inversion, for each image."""


def image_rows(run: MethodRun, edits: Iterable[Mapping[str, Any]], metrics: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each image's reconstruction and for each of its edits.

    Args:
        run: A method that has inverted all images.
        edits: Rows of its measured edits, see `EditRows`.
        metrics: Names of the columns that are measured.
    """
    of_image: dict[str, list[Mapping[str, Any]]] = {}
    for edit in edits:
        of_image.setdefault(edit["file_name"], []).append(edit)
    rows: list[list[Any]] = []
    for row in run.rows:
        name, nfe, curve = row["file_name"], row.get(NFE), run.method.curve
        measured = [row.get(metric) for metric in metrics]
        rows.append([run.method.name, curve, RECONSTRUCTION, RECONSTRUCTION, name, row["status"], nfe, *measured])
        for edit in of_image.get(name, []):
            editor = run.editors[edit["editor"]]
            measured = [edit.get(metric) for metric in metrics]
            rows.append([run.method.name, curve, editor.name, editor.curve, name, "ok", nfe, *measured])
    table = pd.DataFrame(rows, columns=[*NAMES, "file_name", "status", NFE, *metrics])
    return table.astype(dict.fromkeys([NFE, *metrics], "float64"))


def summary(images: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each method and result, in the order of the images' rows.

    Args:
        images: See `image_rows`.
        metrics: Names of the columns that are measured.

    Returns:
        The columns `NAMES`, `images`, `failed` (without a result), `below_15_db` (reconstructions
        of less than `FAILURE_PSNR`, where PSNR is measured), and for NFE and each metric the mean over the images that
        have one, `<name>_std` (of the sample; NaN for one image), `<name>_median` and `<name>_count`.
    """
    rows = []
    for names, group in images.groupby(NAMES, sort=False):
        row: dict[str, Any] = dict(zip(NAMES, names, strict=True))
        row |= {"images": len(group), "failed": int((group["status"] != "ok").sum())}
        if "psnr" in metrics:
            is_rebuilt = row["result"] == RECONSTRUCTION
            row["below_15_db"] = int((group["psnr"] < FAILURE_PSNR).sum()) if is_rebuilt else np.nan
        for name in [NFE, *metrics]:
            values = group[name].dropna()
            row |= {name: values.mean(), f"{name}_std": values.std(), f"{name}_median": values.median()}
            row[f"{name}_count"] = len(values)
        rows.append(row)
    return pd.DataFrame(rows)


def at_equal(table: pd.DataFrame, column: str, value: float | None = None) -> pd.DataFrame:
    """Returns each curve at one value of a column, such as an equal number of network calls.

    Between its points a curve is a straight line. A curve that does not reach the value is left out.

    Args:
        table: See `summary`.
        column: NFE, or a metric.
        value: Where to compare. None takes the largest value of the column that every curve reaches.

    Returns:
        A row for each curve, with its name in the place of the method's. It is empty where no value is reached by all.
    """
    curves = [
        (names, group.sort_values(column, kind="stable"))
        for names, group in table.dropna(subset=[column]).groupby(CURVES, sort=False)
    ]
    if value is None:
        value = min((group[column].max() for _, group in curves), default=np.nan)
    numbers = [name for name in table.columns if name not in NAMES]
    rows = []
    for names, group in curves:
        if group[column].min() <= value <= group[column].max():
            at = {name: np.interp(value, group[column], group[name].astype(float)) for name in numbers}
            rows.append(dict(zip(NAMES, (names[0], names[0], names[1], names[1]), strict=True)) | at)
    return pd.DataFrame(rows, columns=table.columns)


def markdown(
    table: pd.DataFrame, metrics: Mapping[str, type[AnyMetric]], reference: Mapping[str, Mapping[str, float]]
) -> str:
    """Returns a summary in Markdown: "mean ± standard deviation (median)" of each metric.

    Args:
        table: See `summary`; of reconstructions, or of edits. Columns without any value are left out.
        metrics: Titles and formats.
        reference: Others' means, {method: {metric: mean}}. Those of our methods get a column beside ours, and other
            methods a row.
    """
    shown = {name: metric for name, metric in metrics.items() if name in table and table[name].notna().any()}
    ours, edits = set(table["method"]), bool((table["result"] != RECONSTRUCTION).any())
    beside = {name for method in ours & reference.keys() for name in reference[method]}
    lines = []
    for _, row in table.iterrows():
        cells = {"method": row["method"]} | ({"editing method": row["result"]} if edits else {})
        failed = f" ({row['failed']:.0f} failed)" if row["failed"] else ""
        cells |= {"images": f"{row['images'] - row['failed']:.0f}{failed}", "NFE": _number(row[NFE], ".1f")}
        for name, metric in shown.items():
            cells[metric.title] = _spread(row, name, metric.format)
            if name in beside:
                theirs = reference.get(row["method"], {}).get(name, np.nan)
                cells[f"{metric.title}, others"] = _number(theirs, metric.format)
        if "below_15_db" in row and not edits:
            cells[f"below {FAILURE_PSNR:g} dB"] = _number(row["below_15_db"], ".0f")
        lines.append(cells)
    for method, values in reference.items():
        known = {shown[name]: value for name, value in values.items() if name in shown}
        cells = {metric.title: _number(value, metric.format) for metric, value in known.items()}
        if cells and method not in ours:
            lines.append({"method": f"others: {method}", **cells})
    titles = [*lines[0]] if lines else []
    return markdown_table(titles, ([cells.get(title, "") for title in titles] for cells in lines))


def _spread(row: pd.Series, name: str, style: str) -> str:
    mean, std, median = (_number(row[key], style) for key in (name, f"{name}_std", f"{name}_median"))
    return f"{mean} ± {std} ({median})" if std else mean


def _number(value: float, style: str) -> str:
    return "" if pd.isna(value) else format(value, style)
