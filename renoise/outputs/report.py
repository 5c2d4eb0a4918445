"""What a run prints at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from renoise.metrics import Metric
from renoise.outputs import edit_outcomes, summary
from renoise.outputs.manifest import CONTACT_SHEET, MANIFEST
from renoise.outputs.resume import listed
from renoise.utils.screen_text import on_screen

MAX_FAILURES = 10
"""Failed images that are printed. The manifest lists all of them."""


def print_report(
    folder: Path,
    means: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    rows: Sequence[Mapping[str, Any]],
    missing: Sequence[str],
) -> None:
    """Prints the summary, edits made and not made, failures, images without a result and the contact sheet.

    Args:
        folder: The output folder.
        means: See `summarize`.
        metrics: The metrics of the run by name.
        rows: Rows of the manifest.
        missing: Names of the images without a row.
    """
    console = Console()
    console.print(summary.as_table(means, metrics))
    outcomes = edit_outcomes.edit_outcomes(rows)
    if outcomes:
        console.print(edit_outcomes.as_table(outcomes))
    failed = [row for row in rows if row["status"] == "failed"]
    for row in failed[:MAX_FAILURES]:
        print(on_screen(f"failed: {row['file_name']}: {row['error']}"))
    if len(failed) > MAX_FAILURES:
        print(on_screen(f"failed: {len(failed) - MAX_FAILURES} more; {folder / MANIFEST} lists them all"))
    if missing:
        print(on_screen(f"no result: {listed(missing)}: rows or files are gone; run the same command again"))
    print(on_screen(f"contact sheet: {folder / CONTACT_SHEET}"))
