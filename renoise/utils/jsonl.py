"""Files of one JSON object per line that several processes add to, and that may be cut off at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Writes under a temporary name and renames, so that no reader and no killed run ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


class JsonLines:
    """The rows of `name.jsonl`: the first process adds to the file itself, process r > 0 to `name.r.jsonl`.

    No file has two writers, because not every file system that machines share lets several add to one. `merge` brings
    all rows into one file again; `lines` gives them all at any time.

    Args:
        path: of the file, ending in .jsonl.
        rank: of this process.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self.path = path
        self.own = path if rank == 0 else path.with_suffix(f".{rank}{path.suffix}")

    @property
    def files(self) -> list[Path]:
        """Those that there are, the merged one first."""
        parts = sorted(self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}"))
        return [path for path in [self.path, *parts] if path.exists()]

    def lines(self) -> Iterator[tuple[Path, int, bytes]]:
        """Every line with its file and its number. A last one that is cut off is left out: it has not been written."""
        for path in self.files:
            for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
                if line.endswith(b"\n"):
                    yield path, number, line

    def repair(self) -> None:
        """Cuts off unfinished last lines, so that the next row begins a line of its own; for one process alone."""
        for path in self.files:
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                write_atomically(path, content[: content.rfind(b"\n") + 1])

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows at the end of this process's file; where not all of them can be written, none is.

        Raises:
            OSError: the file system refuses.
        """
        rest = memoryview(as_lines(rows))
        with self.own.open("ab", buffering=0) as file:  # unbuffered: what a buffer holds back would follow on closing
            before = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(before)
                raise

    def merge(self, content: bytes) -> None:
        """Makes `content` the only file; for one process alone, while no other writes.

        Raises:
            OSError: the file system refuses; then nothing has changed.
        """
        files = self.files
        if not files or files != [self.path] or self.path.read_bytes() != content:
            write_atomically(self.path, content)
        for path in files:
            if path != self.path:
                path.unlink()


def as_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as the content of a file. What is not valid Unicode, in a name say, becomes an escape that JSON knows."""
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return lines.encode("utf-8", "backslashreplace")
