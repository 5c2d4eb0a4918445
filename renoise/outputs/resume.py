"""What of an output folder is finished, so that a run continues where another one stopped."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from renoise.data import ImageRecord
from renoise.errors import InputWarning
from renoise.outputs.completeness import is_complete
from renoise.outputs.image_files import Stamps, up_to_date

MAX_NAMES = 3
"""Names of images that a message lists."""


def finished_rows(
    rows: Iterable[Mapping[str, Any]],
    records: Mapping[str, ImageRecord],
    stamps: Stamps,
    folder: Path,
    retry_failed: bool,
) -> list[dict[str, Any]]:
    """Returns the rows that stay. Images of all other rows are inverted again.

    An image is inverted again if its prompts changed, its file was replaced, or one of its outputs is missing or cut
    off; and if it failed and `retry_failed` is true.

    Args:
        rows: Rows of the manifest.
        records: The images of the data set, by name.
        stamps: Their stamps, see `image_files.stamp`.
        folder: The output folder.
        retry_failed: Whether failed images are tried again.
    """
    kept, damaged = [], []
    for row in rows:
        name = row["file_name"]
        if not is_complete(folder, row):
            damaged.append(name)
            continue
        record = records.get(name)
        current = dict(row) if record is None else up_to_date(row, record, stamps[name])
        is_retried = retry_failed and row["status"] == "failed"
        if current is not None and not is_retried and not (record and _prompts_changed(row, record)):
            kept.append(current)
    if damaged:
        text = f"{folder}: outputs of {listed(damaged)} are missing or damaged; the images are inverted again"
        warnings.warn(text, InputWarning, stacklevel=2)
    return kept


def listed(names: Sequence[str]) -> str:
    """Returns the number of images and the first names.

    Args:
        names: One name or more.

    Example:
        >>> from renoise.outputs.resume import listed
        >>> listed(["a.png"]), listed(["a.png", "b.png", "c.png", "d.png"])
        ('1 image (a.png)', '4 images (a.png, b.png, c.png, …)')
    """
    shown = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    return f"{len(names)} image{'s' if len(names) > 1 else ''} ({shown})"


def _prompts_changed(row: Mapping[str, Any], record: ImageRecord) -> bool:
    """Returns whether an image has other prompts now than its row was made with."""
    prompt = row["prompt"] if record.prompt is None else record.prompt  # None: the image has no caption yet
    return (row["prompt"], row["edit_prompt"]) != (prompt, record.edit_prompt)
