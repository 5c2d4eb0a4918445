"""Checks that the files of finished images are there and whole, without reading more than their headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from renoise.outputs.files import INVERSION, RECONSTRUCTION, place_of

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
LENGTH_SIZE = 8
"""Bytes of a safetensors file before its header; they hold the header's length."""
COLUMNS = {"file_name", "status", "error", "prompt", "edit_prompt", "inversion", "edits"}
"""Columns that every row of a finished image has."""


def is_complete(folder: Path, row: Mapping[str, Any]) -> bool:
    """Returns whether a row has all columns, and all files that it speaks of are whole. A failed image has no files.

    A file is whole if it begins with its format's header and is as long as the header or the format's end says. That
    finds files that are missing, empty, cut off or of another kind. It does not find changed bytes in the middle.

    Args:
        folder: The output folder.
        row: The image's row of the manifest.

    Raises:
        OSError: A file cannot be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from renoise.outputs.completeness import is_complete
        >>> row = {"file_name": "a.png", "status": "ok", "error": None, "prompt": "", "edit_prompt": None, "edits": {}}
        >>> row["inversion"] = "inversions/a.png.safetensors"
        >>> is_complete(Path(tempfile.mkdtemp()), row)
        False
    """
    if not row.keys() >= COLUMNS:
        return False
    if row["status"] != "ok":
        return True
    if not isinstance(row["edits"], dict) or not row["inversion"]:
        return False
    edits = [editor for editor, outcome in row["edits"].items() if outcome == "ok"]
    return all(_is_whole(folder, row, kind) for kind in (INVERSION, RECONSTRUCTION, *edits))


def _is_whole(folder: Path, row: Mapping[str, Any], kind: str) -> bool:
    """Returns whether one file of an image is there, has its format's header, and the length that it must have."""
    place = place_of(folder, row, kind)
    try:
        if place is None or not place.path.is_file():
            return False
        with place.path.open("rb", buffering=0) as file:
            there = file.seek(0, 2) - place.start
            length = there if place.length is None else place.length
            if length > there:
                return False
            return (_ends_a_safetensors if kind == INVERSION else _ends_a_png)(file, place.start, length)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _ends_a_png(file: BinaryIO, start: int, length: int) -> bool:
    if length < len(PNG_START) + len(PNG_END):
        return False
    file.seek(start)
    if file.read(len(PNG_START)) != PNG_START:
        return False
    file.seek(start + length - len(PNG_END))
    return file.read(len(PNG_END)) == PNG_END


def _ends_a_safetensors(file: BinaryIO, start: int, length: int) -> bool:
    file.seek(start)
    header_length = int.from_bytes(file.read(LENGTH_SIZE), "little")
    if length < LENGTH_SIZE + header_length:
        return False
    try:
        header = json.loads(file.read(header_length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError):
        return False  # not a header of this format
    return bool(ends) and length == LENGTH_SIZE + header_length + max(ends)
