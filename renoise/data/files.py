"""Files that a data set consists of: their bytes, their JSON, and the files in a folder."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.records import ImageSource, warn_of_names
from renoise.errors import InputError, InputWarning

FILE_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnreadableImageError(InputError):
    """The file is not a usable image. The message continues the file's name: "is a folder, not a file"."""


def read_bytes(source: Path | ImageSource) -> bytes:
    """Returns the bytes of a regular file. Other paths are refused before they are opened, because a pipe can hang.

    Args:
        source: The file, or an object that reads one.

    Raises:
        UnreadableImageError: It does not exist, is not a regular file or cannot be read.
    """
    with unreadable_if_reading_fails(source):
        if not isinstance(source, Path):
            return source.read()
        check_regular(source)
        return source.read_bytes()


@contextmanager
def unreadable_if_reading_fails(source: Path | ImageSource) -> Iterator[None]:
    """Turns errors of reading inside the block into an `UnreadableImageError` that says what is wrong.

    Args:
        source: What is read.
    """
    try:
        yield
    except FileNotFoundError:
        is_link = isinstance(source, Path) and os.path.islink(source)
        found = "is a link to a file that does not exist" if is_link else "does not exist"
        raise UnreadableImageError(found) from None
    except (OSError, MemoryError) as error:
        raise UnreadableImageError(f"cannot be read: {error_text(error)}") from error


def check_regular(path: Path) -> None:
    """Checks that a path is a regular file.

    Raises:
        UnreadableImageError: It is something else.
        OSError: The path does not exist or cannot be examined.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise UnreadableImageError(f"is {FILE_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


def read_part(path: Path, start: int, length: int) -> bytes:
    """Returns part of a file. It is shorter than `length` where the file ends before.

    Args:
        path: The file.
        start: Where the part begins, in bytes.
        length: How many bytes to read.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def error_text(error: Exception) -> str:
    """Returns the text of an exception in one line: the system error, the message, or the name of its type."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def read_json(path: Path, option: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: The file.
        option: The option that names it, for messages.

    Raises:
        InputError: The file does not exist, cannot be read or is not JSON.
    """
    try:
        return parse_json(read_bytes(path), str(path))
    except UnreadableImageError as error:
        raise InputError(f"{option}: {path} {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{option}: {path} is not JSON: {error}") from None


def parse_json(text: str | bytes, place: str, parse_constant: Callable[[str], object] | None = None) -> Any:
    """Returns the value of a JSON text. A warning says where a key occurs twice in an object.

    Args:
        text: The text.
        place: Where it is, for messages.
        parse_constant: Returns the value of NaN and infinity; see `json.loads`.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deeply.
    """
    repeated = list[str]()

    def last_of_each_key(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return found

    value = json.loads(text, object_pairs_hook=last_of_each_key, parse_constant=parse_constant)
    if repeated:
        warn_of_names(place, "keys occur twice in an object, and the last one counts", repeated)
    return value


def check_folder(path: Path, option: str) -> None:
    """Checks that a folder exists, so that a wrong option is one error and not one for each image.

    Args:
        path: The folder.
        option: The option that names it, for messages.

    Raises:
        InputError: It does not exist or is not a folder.
    """
    if not path.is_dir():
        raise InputError(f"{option}: {path} {'is not a folder' if os.path.lexists(path) else 'does not exist'}")


def walk(root: Path, skip: Path | None) -> Iterator[Path]:
    """Yields the files in a folder and the folders inside it, except hidden ones. Links to folders are not followed.

    Args:
        root: The folder.
        skip: A folder inside `root` to leave out.
    """
    skipped = None if skip is None else os.path.realpath(skip)

    def warn(error: OSError) -> None:
        rank_zero_warn(f"{error.filename} is left out: {error.strerror}", category=InputWarning)

    for folder, subfolders, files in os.walk(root, onerror=warn):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) != skipped
        )
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
