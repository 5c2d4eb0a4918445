"""What the image file of a row was, so that a picture that was replaced under its name is noticed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from renoise.data import ImageRecord
from renoise.data.files import UnreadableImageError
from renoise.data.image_files import open_file, sha256

IMAGE_FILE = "image_file"
"""The column of the manifest: `bytes`, `mtime_ns` and `sha256`; null where the source is not a file."""

Stamps = Mapping[str, dict[str, int] | None]
"""Sizes and times of image files by the images' names, see `stamp`."""


def stamp(record: ImageRecord) -> dict[str, int] | None:
    """Returns the size and the time of the last change of the file that contains an image; None where there is none.

    Args:
        record: The image. A source that is not a path may have an attribute `file`, the path of what it reads.
    """
    path = record.source if isinstance(record.source, Path) else getattr(record.source, "file", None)
    if path is None:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # there is no such file, or no file has such a name
        return None
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def image_file(then: Mapping[str, int] | None, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the column of the manifest about the image file.

    Args:
        then: Its stamp from before it was read, so that a later change is always noticed.
        metadata: The metadata of the inversion, with the hash of the file; empty for a failed image.
    """
    return None if then is None else {**then, "sha256": metadata.get("image_sha256")}


def up_to_date(row: Mapping[str, Any], record: ImageRecord, now: dict[str, int] | None) -> dict[str, Any] | None:
    """Returns the row of an image whose file has the same content as then; None where it was replaced.

    The content is read only where the size or the time differ. Then the row gets the new ones. An image that has
    been removed keeps its row, and so does a row of a run that did not keep them.

    Args:
        row: The image's row of the manifest.
        record: The image, as the data set has it now.
        now: Its stamp.
    """
    then = row.get(IMAGE_FILE)
    if not isinstance(then, Mapping) or now is None or {name: then.get(name) for name in now} == now:
        return dict(row)
    is_another_size = isinstance(record.source, Path) and then.get("bytes") != now["bytes"]
    if is_another_size or not then.get("sha256"):
        return None
    try:
        with open_file(record.source) as file:
            found = sha256(file)
    except (UnreadableImageError, OSError):
        return None
    return {**row, IMAGE_FILE: {**now, "sha256": found}} if found == then["sha256"] else None
