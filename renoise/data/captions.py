"""`captions.jsonl`: what the captioner said of every image, in Hugging Face's ImageFolder columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.errors import InputError, InputWarning
from renoise.utils.files import write_atomically
from renoise.utils.jsonl import JsonLines

CAPTIONS_NAME = "captions.jsonl"


class Captions(JsonLines):
    """Rows {"file_name": "sub/cat.jpg", "text": "a cat on a sofa"}, which people may correct by hand.

    Args:
        folder: the output folder.
        rank: of this process.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        super().__init__(folder / CAPTIONS_NAME, rank)

    def gather(self) -> None:
        """Brings the rows of all processes into one file; for one process alone, while no other adds any.

        Raises:
            InputError: the file cannot be read, or not be written.
        """
        try:
            self._end_last_line()
            self.repair()
            if self.files:
                self.merge(b"".join(line for _, _, line in self.lines()))
        except OSError as error:
            raise InputError(f"{self.path} cannot be used: {error.strerror or error}") from error

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds captions; where not all of them can be written, none is.

        Raises:
            InputError: the file system refuses.
        """
        try:
            super().append(rows)
        except OSError as error:
            raise InputError(f"{self.own} cannot be written: {error.strerror or error}") from error

    def read(self) -> dict[str, str]:
        """The captions by file name. Of several lines on one image the last counts.

        A line that cannot be used stays where it is, since a person may have written it, and is named in a warning.
        """
        captions: dict[str, str] = {}
        for path, number, line in self.lines():
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                rank_zero_warn(f"{where} is left aside: not JSON ({error})", category=InputWarning)
                continue
            if _is_caption(row):
                captions[row["file_name"]] = row["text"]
            else:
                problem = 'not an object with strings "file_name" and "text"'
                rank_zero_warn(f"{where} is left aside: {problem}", category=InputWarning)
        return captions

    def _end_last_line(self) -> None:
        """Ends the last line where it says something whole: an editor may have forgotten to, a killed run has not."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        try:
            whole = _is_caption(json.loads(content[content.rfind(b"\n") + 1 :]))
        except (ValueError, RecursionError):
            return
        if whole:
            write_atomically(self.path, content + b"\n")


def _is_caption(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("file_name"), str) and isinstance(row.get("text"), str)
