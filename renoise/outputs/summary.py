"""`summary.json` and the table that ends a run: means over all images of the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from renoise.metrics import Metric
from renoise.outputs.columns import SOLVED


def summarize(rows: Iterable[Mapping[str, Any]], metrics: Iterable[str]) -> dict[str, Any]:
    """Returns counts and means over the images that did not fail.

    Args:
        rows: Rows of the manifest.
        metrics: Names of the metrics of the run.

    Returns:
        `images`, `failed`, the mean of each metric, of `nfe`, `residual`, `converged` (the share of images that
        reached the tolerance), `fell_back` (the share that an accelerated solver gave up on) and `seconds`, and
        `images_per_second`. A mean is None where no image has a value.

    Example:
        >>> from renoise.outputs.summary import summarize
        >>> rows = [{"status": "ok", "psnr": 20.0, "seconds": 0.5}, {"status": "failed"}]
        >>> summary = summarize(rows, ["psnr"])
        >>> summary["images"], summary["failed"], summary["psnr"], summary["images_per_second"]
        (2, 1, 20.0, 2.0)
    """
    rows = list(rows)
    done = [row for row in rows if row["status"] == "ok"]
    summary: dict[str, Any] = {"images": len(rows), "failed": len(rows) - len(done)}
    for name in (*metrics, *SOLVED, "seconds"):
        values = [row[name] for row in done if row.get(name) is not None]
        summary[name] = sum(values) / len(values) if values else None
    summary["images_per_second"] = 1 / summary["seconds"] if summary["seconds"] else None
    return summary


def as_table(summary: Mapping[str, Any], metrics: Mapping[str, Metric]) -> Table:
    """Returns a summary as a table for the terminal.

    Args:
        summary: See `summarize`.
        metrics: The metrics of the run by name. Their titles and formats are those of the table's columns.
    """
    columns = {
        "images": str(summary["images"]),
        "failed": str(summary["failed"]),
        **{metric.title: _format(summary[name], metric.format) for name, metric in metrics.items()},
        "NFE per image": _format(summary["nfe"], ".1f"),
        "images per second": _format(summary["images_per_second"], ".2f"),
    }
    table = Table(title="ReNoise")
    for title in columns:
        table.add_column(title, justify="right")
    table.add_row(*columns.values())
    return table


def _format(value: float | None, specification: str) -> str:
    return "–" if value is None else format(value, specification)
