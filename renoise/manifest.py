"""`manifest.jsonl` and `settings.json`: what has been done in an output folder, and under which settings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from renoise.errors import InputError

OUTPUTS = ("inversions", "reconstructions", "edits", "manifest.jsonl", "summary.json", "contact_sheet.png")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes under a temporary name and renames, so that no reader and no killed run ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


class Manifest:
    """One line of JSON per image, in the order in which they were finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "manifest.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """All rows. A last line that a killed run left unfinished is no row; its image is simply done again."""
        if not self.path.exists():
            return []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{self.path}, line {number} is no JSON ({error}); mend or remove it") from error
        return rows

    def repair(self) -> None:
        """Cuts off an unfinished last line, so that the next row begins a line of its own."""
        if self.path.exists():
            content = self.path.read_bytes()
            if content and not content.endswith(b"\n"):
                write_atomically(self.path, content[: content.rfind(b"\n") + 1])

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows in a single write."""
        lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        with self.path.open("ab", buffering=0) as file:
            file.write(lines.encode())


def claim_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes `folder` the output of a run with `settings`; a run with the same settings is picked up.

    Args:
        folder: created where it does not exist.
        settings: everything that the results depend on, in JSON's types.
        overwrite: whether the output of other settings is thrown away.

    Raises:
        InputError: the folder cannot be written, or holds the output of other settings (and `overwrite` is false).
    """
    path = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        differences = _differences(path, settings) if path.exists() or (folder / "manifest.jsonl").exists() else []
        if differences and not overwrite:
            raise InputError(
                f"trainer.default_root_dir: {folder} holds the output of a run with other settings "
                f"({'; '.join(differences)}); choose another folder, or say --model.overwrite true to replace it"
            )
        if differences:
            for name in OUTPUTS:
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        write_atomically(path, json.dumps(settings, indent=2, ensure_ascii=False).encode())
    except OSError as error:
        raise InputError(f"trainer.default_root_dir: {folder} cannot be written: {error}") from error


def _differences(path: Path, settings: dict[str, Any]) -> list[str]:
    """What `path` says differently from `settings`, in words."""
    try:
        old = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return [f"{path.name} is missing or damaged"]
    return [
        f"{name} was {old.get(name)!r}, now {settings.get(name)!r}"
        for name in sorted(old.keys() | settings.keys())
        if old.get(name) != settings.get(name)
    ]
