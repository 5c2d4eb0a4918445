"""Reads `metadata.jsonl` files, in the convention of Hugging Face's ImageFolder."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import UnreadableImageError, read_bytes
from renoise.data.records import ImageRecord, file_record, printable
from renoise.errors import InputError, InputWarning

METADATA_NAME = "metadata.jsonl"


def read_metadata(path: Path, root: Path) -> Iterator[tuple[str, ImageRecord]]:
    """Yields the place, for messages, and the record of each row. A broken row is skipped with a warning.

    Args:
        path: The metadata file. Its rows name files relative to its folder.
        root: The data set's folder. No file may lie outside of it.

    Raises:
        InputError: The file cannot be read or is not UTF-8.
    """
    folder = path.parent.relative_to(root).as_posix()
    for place, row in _rows(path):
        # A path with slashes on every machine: `a/../b.jpg` and `./b.jpg` are `b.jpg`.
        name = posixpath.normpath(posixpath.join(folder, row.pop("file_name")))
        yield place, file_record(root, name, place, row)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnreadableImageError as error:
        raise InputError(f"{path} {error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() would also split inside JSON strings
        if not line.strip():
            continue
        place = printable(f"{path}, line {number}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            rank_zero_warn(f"{place} is skipped: not JSON ({error})", category=InputWarning)
            continue
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"]:
            rank_zero_warn(f'{place} is skipped: not an object with a "file_name"', category=InputWarning)
            continue
        yield place, row
