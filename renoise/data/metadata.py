"""Reads `metadata.jsonl`, `.csv` and `.parquet` files, in the convention of Hugging Face's ImageFolder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from renoise.data.files import UnreadableImageError, read_bytes
from renoise.data.metadata_rows import NAME, READERS
from renoise.data.records import ImageRecord, file_record
from renoise.data.text_columns import TextColumns
from renoise.errors import InputError

MASK = "mask"
"""The column with the file of an image's mask. Other values than a file name pass through."""


def is_metadata(path: Path) -> bool:
    """Returns whether a file is a metadata file, by its name."""
    return path.name in READERS


def read_metadata(path: Path, root: Path) -> Iterator[tuple[str, ImageRecord]]:
    """Yields the place, for messages, and the record of each row. A broken row is skipped with a warning.

    Args:
        path: The metadata file. Its rows name files relative to its folder.
        root: The data set's folder. No file may lie outside of it.

    Raises:
        InputError: The file cannot be read, is not UTF-8 or has no column "file_name".
    """
    try:
        content = read_bytes(path)
    except UnreadableImageError as error:
        raise InputError(f"{path} {error}") from None
    folder = path.parent.relative_to(root).as_posix()
    texts = TextColumns()
    for place, row, problem in READERS[path.name](path, content):
        # A path with slashes on every machine: `a/../b.jpg` and `./b.jpg` are `b.jpg`.
        name = posixpath.normpath(posixpath.join(folder, row.pop(NAME)))
        if isinstance(row.get(MASK), str):
            row[MASK] = posixpath.normpath(posixpath.join(folder, row[MASK]))
        texts.add(row)
        yield place, file_record(root, name, place, row, problem)
    texts.warn_if_none(path, "name the column of prompts text, and that of edit prompts edit_text")
