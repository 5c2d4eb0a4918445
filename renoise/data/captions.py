"""`captions.jsonl`: the captions of images without a text, in the columns of Hugging Face's ImageFolder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.records import printable
from renoise.errors import InputError, InputWarning
from renoise.utils.files import write_atomically
from renoise.utils.jsonl import JsonLines

CAPTIONS_NAME = "captions.jsonl"


class Captions(JsonLines):
    """Rows such as {"file_name": "sub/cat.jpg", "text": "a cat on a sofa"}, which users may correct by hand.

    Args:
        folder: The output folder. It is created with the first caption.
        rank: Rank of this process.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        super().__init__(folder / CAPTIONS_NAME, rank)

    def gather(self) -> None:
        """Merges the rows of all processes into one file. Only one process may call it, while no other appends.

        Raises:
            InputError: The file cannot be read or written.
        """
        try:
            self._end_last_line()
            self.repair()
            if self.files:
                self.merge(b"".join(line for _, _, line in self.lines()))
        except OSError as error:
            raise InputError(f"{self.path} cannot be used: {error.strerror or error}") from error

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends captions: all of them, or none where the file system refuses.

        Args:
            rows: {"file_name": …, "text": …} for each image.

        Raises:
            InputError: The file system refuses.
        """
        try:
            super().append(rows)
        except OSError as error:
            raise InputError(f"{self.own} cannot be written: {error.strerror or error}") from error

    def read(self) -> dict[str, str]:
        """Returns the captions by file name. Of several lines for one image the last counts.

        A line that is not a caption is skipped with a warning. It stays in the file, because a user may have written
        it.
        """
        captions: dict[str, str] = {}
        for path, number, line in self.lines():
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                rank_zero_warn(f"{place} is skipped: not JSON ({error})", category=InputWarning)
                continue
            if _is_caption(row):
                captions[row["file_name"]] = row["text"]
            else:
                problem = 'not an object with strings "file_name" and "text" of valid Unicode'
                rank_zero_warn(f"{place} is skipped: {problem}", category=InputWarning)
        return captions

    def _end_last_line(self) -> None:
        """Adds a line end after the last line if that is a complete caption, as an editor may leave it.

        A killed run leaves an incomplete line, which `repair` cuts off.
        """
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        try:
            is_complete = _is_caption(json.loads(content[content.rfind(b"\n") + 1 :]))
        except (ValueError, RecursionError):
            return
        if is_complete:
            write_atomically(self.path, content + b"\n")


def _is_caption(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    values = [row.get("file_name"), row.get("text")]
    # Half of a surrogate pair cannot be written as UTF-8, nor can a tokenizer read it.
    return all(isinstance(value, str) and printable(value) == value for value in values)
