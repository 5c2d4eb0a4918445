"""Files of one JSON object per line that several processes append to, and that a kill may cut off at any point."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from renoise.utils.files import write_atomically


class JsonLines:
    r"""The rows of `name.jsonl`. The process of rank 0 appends to that file, the process of rank r to `name.r.jsonl`.

    No file has two writers, because not every shared file system lets several processes append to one file. `lines`
    reads all files at any time; `merge` leaves one file again.

    Args:
        path: The file; it ends in .jsonl.
        rank: Rank of this process.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from renoise.utils.jsonl import JsonLines
        >>> rows = JsonLines(Path(tempfile.mkdtemp()) / "rows.jsonl")
        >>> rows.append([{"file_name": "a.png"}])
        >>> [line for _, _, line in rows.lines()]
        [b'{"file_name": "a.png"}\n']
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self.path, self.rank = path, rank
        self.own = path if rank == 0 else path.with_suffix(f".{rank}{path.suffix}")

    @property
    def files(self) -> list[Path]:
        """The files that exist, by rank. Other names, such as a backup `name.old.jsonl`, are a person's own files."""
        pattern = re.compile(rf"{re.escape(self.path.stem)}\.([1-9][0-9]*){re.escape(self.path.suffix)}")
        found = os.listdir(self.path.parent) if self.path.parent.is_dir() else []
        ranks = sorted(int(match[1]) for match in map(pattern.fullmatch, found) if match)
        parts = [self.path.with_suffix(f".{rank}{self.path.suffix}") for rank in ranks]
        return [path for path in [self.path, *parts] if path.is_file()]

    def lines(self) -> Iterator[tuple[Path, int, bytes]]:
        """Yields every complete line with its file and its number, from 1 on. A last line without its end is skipped.

        Raises:
            OSError: A file cannot be read.
        """
        for path in self.files:
            for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
                if line.endswith(b"\n"):
                    yield path, number, line

    def repair(self) -> None:
        """Cuts off incomplete last lines, so that the next row starts a new line. Only one process may call it.

        Raises:
            OSError: The file system refuses.
        """
        for path in self.files:
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                write_atomically(path, content[: content.rfind(b"\n") + 1])

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows to this process's file: all of them, or none where the file system refuses.

        When it returns, the rows are on the disk. Files that rows speak of must be written before.

        Args:
            rows: Objects of JSON types, without NaN and infinity.

        Raises:
            OSError: The file system refuses.
            ValueError: A row contains NaN or infinity, which JSON cannot represent.
        """
        rest = memoryview(as_lines(rows))
        self.own.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would write the rest of a refused row when the file is closed.
        with self.own.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise

    def merge(self, content: bytes) -> None:
        """Makes `content` the only file. Only one process may call it, while no other appends.

        Args:
            content: All lines; see `as_lines`.

        Raises:
            OSError: The file system refuses; then all files are as before.
        """
        files = self.files
        if not files or files != [self.path] or self.path.read_bytes() != content:
            write_atomically(self.path, content)
        for path in files:
            if path != self.path:
                path.unlink()


def as_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    r"""Returns rows as the content of a file. Characters that are not valid Unicode become JSON escapes.

    Args:
        rows: Objects of JSON types, without NaN and infinity.

    Raises:
        ValueError: A row contains NaN or infinity, which JSON cannot represent.

    Example:
        >>> from renoise.utils.jsonl import as_lines
        >>> as_lines([{"psnr": 26.3}, {"psnr": None}])
        b'{"psnr": 26.3}\n{"psnr": null}\n'
    """
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return lines.encode("utf-8", "backslashreplace")
