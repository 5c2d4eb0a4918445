"""What is known of an image before its file is opened."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch.utilities import rank_zero_warn

from renoise.errors import InputError, InputWarning
from renoise.utils.distributed import broadcast

MAX_SHOWN_NAMES, MAX_SHOWN = 3, 80
"""Of a warning about many names: how many it shows, and how many characters of each."""

MAX_DEPTH = 100
"""Largest depth of lists and objects inside each other in a row."""


class ImageSource(Protocol):
    """An image that is not a file of its own, such as a member of an archive or a cell of a table.

    A source may have an attribute `file`: the path of the file that contains the image. A later run inverts the image
    again if its bytes have changed, and reads them only where the size or the time of that file has changed.
    """

    def read(self) -> bytes:
        """Returns the bytes of the image file.

        Raises:
            UnreadableImageError: The bytes cannot be read.
            OSError: The file system refuses.
        """


@dataclass(frozen=True)
class ImageRecord:
    """What is known of an image before it is opened.

    Args:
        file_name: Name of the image in the output: a path with slashes and a suffix, unique in its data set.
        source: The image file, or an object that reads one.
        prompt: What the image shows; None takes a caption or the data module's `prompt`.
        edit_prompt: What the edited image should show; None is no edit.
        extra: Further columns of the image's row in the manifest, in JSON types.
        error: Why the image cannot be used; None where it can.

    Example:
        >>> from pathlib import Path
        >>> from renoise.data import ImageRecord
        >>> record = ImageRecord("cat.png", Path("photos/cat.png"), prompt="a cat", edit_prompt="a dog")
        >>> record.file_name
        'cat.png'
    """

    file_name: str
    source: Path | ImageSource
    prompt: str | None = None
    edit_prompt: str | None = None
    extra: dict[str, object] = field(default_factory=dict)
    error: str | None = None


def printable(name: str) -> str:
    r"""Returns a name that can be written as UTF-8: what is not valid Unicode becomes `\udc…`."""
    return name.encode("utf-8", "backslashreplace").decode()


def file_record(root: Path, name: str, place: str, row: dict[str, Any], error: str | None = None) -> ImageRecord:
    """Returns the record of an image file that a row of a table names. Where the file cannot be used, it has an error.

    Args:
        root: The folder that contains the file, directly or in a folder inside.
        name: Path of the file relative to `root`, with slashes and without `.` and `..` in the middle.
        place: Where the row is, for messages.
        row: The columns. "text" and "edit_text" are strings or null and may be missing; the others pass through.
        error: Why the image cannot be used.
    """
    record = row_record(name, root / name, place, row, error or _row_error(name, row) or path_error(root, name))
    if record.error is None and not os.path.lexists(root / name):
        return ImageRecord(record.file_name, record.source, error=f"does not exist ({place})")
    return record


def path_error(root: Path, name: str) -> str | None:
    """Returns why a file that a table names may not be opened, or None.

    Args:
        root: The folder that contains the data set.
        name: Path of the file relative to `root`, with slashes and without `.` and `..` in the middle.
    """
    if posixpath.isabs(name) or name.split("/")[0] == "..":
        return "its path leads out of data.root"
    folder = posixpath.dirname(name).partition("\0")[0]
    if folder and os.path.realpath(root / folder) != os.path.join(os.path.realpath(root), folder):
        return f"its path leads through a link: {folder}; links to folders are not followed"
    return None


def row_record(
    name: str, source: Path | ImageSource, place: str, row: dict[str, Any], error: str | None = None
) -> ImageRecord:
    """Returns the record of an image that a row of a table describes. Where the row is wrong, it has an error.

    Args:
        name: Name of the image in the output.
        source: The image file, or an object that reads one.
        place: Where the row is, for messages.
        row: The columns. "text" and "edit_text" are strings or null and may be missing; the others pass through.
        error: Why the image cannot be used.
    """
    error = error or _row_error(name, row)
    if error:
        return ImageRecord(printable(name), source, error=f"{error} ({place})")
    extra = {column: value for column, value in row.items() if column not in ("text", "edit_text")}
    return ImageRecord(name, source, row.get("text"), row.get("edit_text"), extra)


def _row_error(name: str, row: dict[str, Any]) -> str | None:
    try:
        json.dumps([name, row], ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "the row is not valid Unicode"
    except ValueError:
        return "the row contains NaN or infinity, which JSON cannot represent"
    except RecursionError:
        return "the row is nested too deeply"
    if _depth_exceeds(row, MAX_DEPTH):  # others who read the manifest would fail
        return f"the row is nested more than {MAX_DEPTH} levels deep"
    for column in ("text", "edit_text"):
        if not isinstance(row.get(column), str | None):
            return f"{column} must be a string or null, got {json.dumps(row[column])}"
    return None


def _depth_exceeds(value: object, depth: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def first_of_each_name(records: Iterable[tuple[str, ImageRecord]]) -> list[ImageRecord]:
    """Returns the records in their order. A second record of one name is skipped with a warning.

    Args:
        records: Pairs of a place, for messages, and a record.
    """
    found: dict[str, ImageRecord] = {}
    places: dict[str, str] = {}
    for place, record in records:
        name = record.file_name
        if name in found:
            rank_zero_warn(f"{place} is skipped: {name} is already in {places[name]}", category=InputWarning)
        else:
            found[name], places[name] = record, place
    return list(found.values())


def warn_of_names(place: object, problem: str, names: Sequence[str]) -> None:
    """Warns of several files or members at once: how many there are, and the first of their names.

    Args:
        place: Where they are.
        problem: What is wrong with them: "texts are left out".
        names: Their names; without any, there is no warning.
    """
    if names:
        shown = [name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…" for name in names[:MAX_SHOWN_NAMES]]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        message = f"{place}: {problem} ({len(names)}): {', '.join(shown)}{more}"
        # warnings are counted by the place in the code: that of the caller
        rank_zero_warn(printable(message), stacklevel=5, category=InputWarning)


def check_same_in_all_processes(records: list[ImageRecord], root: Path) -> None:
    """Checks that this process lists the same images as the first one. Every process must call it.

    Machines that share a folder may see its content at different moments, or may not share it at all.

    Args:
        records: The images, as this process lists them.
        root: The data set's folder.

    Raises:
        InputError: The lists differ, so the processes' shares would overlap or leave images out.
    """
    names = "\n".join(record.file_name for record in records)
    own = len(records), hashlib.sha256(names.encode("utf-8", "backslashreplace")).hexdigest()
    first = broadcast(own)
    if first != own:
        raise InputError(
            f"data.root: {root} contains {own[0]} images in this process and {first[0]} in process 0, or images of "
            "other names; all processes must see the same files"
        )
