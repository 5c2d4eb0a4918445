"""The rows of `metadata.jsonl` files, in Hugging Face's ImageFolder convention."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.batch import ImageRecord, ImageSource
from renoise.data.images import UnreadableImageError, read_bytes
from renoise.errors import InputError, InputWarning

METADATA_NAME = "metadata.jsonl"


def printable(name: str) -> str:
    r"""`name` with whatever is not valid Unicode spelled out as `\udc…`, so that it can be written as UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_metadata(path: Path, root: Path, prompt: str | None) -> Iterator[tuple[str, str, ImageRecord]]:
    """One record per row of a metadata file: (name relative to the root, the row's place, record).

    Args:
        path: the metadata file; its rows name files relative to its folder.
        root: the folder that no file may lie outside of.
        prompt: for rows without "text".

    Raises:
        InputError: the file as a whole cannot be read, or not as UTF-8. A broken row is skipped with a warning.
    """
    folder = path.parent.relative_to(root).as_posix()
    for where, row in _rows(path):
        # Taken as a path of slashes, whatever the machine: `a/../b.jpg` and `./b.jpg` are `b.jpg`.
        name = posixpath.normpath(posixpath.join(folder, row.pop("file_name")))
        yield name, where, file_record(root, name, where, row, prompt)


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
        where = printable(f"{path}, line {number}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            rank_zero_warn(f"{where} is skipped: not JSON ({error})", category=InputWarning)
            continue
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"]:
            rank_zero_warn(f'{where} is skipped: not an object with a "file_name"', category=InputWarning)
            continue
        yield where, row


def file_record(root: Path, name: str, where: str, row: dict[str, Any], prompt: str | None) -> ImageRecord:
    """The record of an image file that a row tells of; where that cannot be, it says why.

    Args:
        root: the folder that the file lies in, or in a folder inside.
        name: of the file, relative to the root, with slashes.
        where: the row's place, for messages.
        row: "text" and "edit_text", strings or null, where it has them; the other columns pass through.
        prompt: where it has no "text".
    """
    outside = posixpath.isabs(name) or posixpath.normpath(name).split("/")[0] == ".."
    error = "file_name leads out of data.root" if outside else None
    record = table_record(name, root / name, where, row, prompt, error)
    if record.error is None and not os.path.lexists(root / name):
        return replace(record, prompt=prompt, edit_prompt=None, extra={}, error=f"does not exist ({where})")
    return record


def table_record(
    name: str,
    source: Path | ImageSource,
    where: str,
    row: dict[str, Any],
    prompt: str | None,
    error: str | None = None,
) -> ImageRecord:
    """The record of an image that is there, wherever it is; see `file_record`.

    Args:
        name: what it is called in the output.
        source: where it is read from.
        where: the row's place, for messages.
        row: "text" and "edit_text" where it has them; the other columns pass through.
        prompt: where it has no "text".
        error: why it shall not be opened.
    """
    error = error or _error(name, row)
    if error:
        return ImageRecord(printable(name), source, prompt, None, {}, f"{error} ({where})")
    text, edit_prompt = row.pop("text", None), row.pop("edit_text", None)
    return ImageRecord(name, source, prompt if text is None else text, edit_prompt, row)


def _error(name: str, row: dict[str, Any]) -> str | None:
    try:
        json.dumps([name, row], ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "the row is not valid Unicode"
    except ValueError:
        return "the row holds NaN or infinity, which JSON has not"
    for column in ("text", "edit_text"):
        if not isinstance(row.get(column), str | None):
            return f"{column} must be a string or null, not {json.dumps(row[column])}"
    return None
