"""`summary.json` and the table that ends a run: means over everything in the manifest."""

from __future__ import annotations

from typing import Any

from rich.table import Table

MEANS = ("psnr", "ssim", "psnr_vae", "latent_mse", "nfe", "seconds")


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, the mean of every measured column over the images that did not fail, and images per second."""
    done = [row for row in rows if row["status"] == "ok"]
    summary: dict[str, Any] = {"images": len(rows), "failed": len(rows) - len(done)}
    for name in MEANS:
        values = [row[name] for row in done if row[name] is not None]
        summary[name] = sum(values) / len(values) if values else None
    summary["images_per_second"] = 1 / summary["seconds"] if summary["seconds"] else None
    return summary


def as_table(summary: dict[str, Any]) -> Table:
    """The summary as a person wants to see it."""
    table = Table(title="ReNoise")
    columns = {
        "images": f"{summary['images']}",
        "failed": f"{summary['failed']}",
        "PSNR (dB)": _format(summary["psnr"], ".2f"),
        "autoencoder's ceiling (dB)": _format(summary["psnr_vae"], ".2f"),
        "network rows per image": _format(summary["nfe"], ".1f"),
        "images per second": _format(summary["images_per_second"], ".2f"),
    }
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row(*columns.values())
    return table


def _format(value: float | None, specification: str) -> str:
    return "–" if value is None else format(value, specification)
