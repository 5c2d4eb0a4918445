"""`manifest.jsonl` and `settings.json`: what has been done in an output folder, and under which settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from renoise.errors import InputError
from renoise.utils.jsonl import JsonLines, as_lines, write_atomically

SETTINGS, MANIFEST = "settings.json", "manifest.jsonl"
WELL_WITHIN_THE_FIRST_PART = 1000
"""Rows; the first part that `datasets` reads is 10 MB long."""
OUTPUTS = (MANIFEST, "summary.json", "contact_sheet.png", "inversions", "reconstructions", "edits", "shards")
"""In the order of their removal: without the manifest, nothing in the folder counts as done."""


class Manifest(JsonLines):
    """One line of JSON per image, by name once a run has ended; while it lasts, as images are finished.

    Args:
        folder: the output folder.
        rank: of this process.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        super().__init__(folder / MANIFEST, rank)

    def read(self) -> list[dict[str, Any]]:
        """All rows, one per image; where a file has several of one, the last.

        Raises:
            InputError: a line is no JSON.
        """
        rows: dict[str, dict[str, Any]] = {}
        for path, number, line in self.lines():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number} is no JSON ({error}); mend or remove it") from error
            rows[row.get("file_name")] = row
        return list(rows.values())

    def replace(self, rows: list[dict[str, Any]]) -> None:
        """Leaves these rows and no others, in one file; for one process alone, while no other writes."""
        self.merge(as_lines(rows))


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by name, but that none is far behind the first which says something in a column that others leave null.

    Libraries that read the file in parts, as `datasets` does, learn the type of every column from the first part.
    """
    by_name = sorted(rows, key=lambda row: str(row["file_name"]))
    says_first: dict[str, int] = {}
    for position, row in enumerate(by_name):
        for column, value in row.items():
            if value is not None:
                says_first.setdefault(column, position)
    front = {position for position in says_first.values() if position >= WELL_WITHIN_THE_FIRST_PART}
    others = (row for position, row in enumerate(by_name) if position not in front)
    return [*(by_name[position] for position in sorted(front)), *others]


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns what the file system refuses inside the block into an InputError that names the option."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"trainer.default_root_dir: {folder} cannot be written: {reason}") from error


def open_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes sure that a run with `settings` may write to `folder`; creates it, and touches nothing in it.

    Args:
        folder: the output folder.
        settings: everything that the results depend on, in JSON's types.
        overwrite: whether the output of other settings may be thrown away.

    Raises:
        InputError: the folder cannot be created, or holds the output of other settings (and `overwrite` is false).
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    differences = _differences(folder, settings)
    if differences and not overwrite:
        raise InputError(
            f"trainer.default_root_dir: {folder} holds the output of a run with other settings "
            f"({'; '.join(differences)}); choose another folder, or say --model.overwrite true to replace it"
        )


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Makes `folder` that of a run with `settings`: removes what others put out, keeps what the same put out.

    Raises:
        InputError: the folder cannot be written.
    """
    with writing_to(folder):
        if _differences(folder, settings):
            for name in [*OUTPUTS, *(path.name for path in Manifest(folder).files)]:
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        # What is not valid Unicode, in a path say, becomes an escape that JSON knows too.
        content = json.dumps(settings, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
        write_atomically(folder / SETTINGS, content)


def _differences(folder: Path, settings: dict[str, Any]) -> list[str]:
    """What the run whose output `folder` holds was told differently, in words.

    Settings without any finished image do not count, so that a corrected command may follow a mistaken one.
    """
    path, started = folder / SETTINGS, bool(Manifest(folder).files)
    try:
        old = json.loads(path.read_text(encoding="utf-8")) if started or path.exists() else settings
    except (FileNotFoundError, ValueError):
        old = None
    if not isinstance(old, dict) or not old.keys() & settings.keys():
        return [f"{SETTINGS} is missing, damaged or not a run's"]
    return [
        f"{name} was {old.get(name)!r}, now {settings.get(name)!r}"
        for name in sorted(old.keys() | settings.keys())
        if started and old.get(name) != settings.get(name)
    ]
