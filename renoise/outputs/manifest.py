"""`manifest.jsonl` and `settings.json`: what has been done in an output folder, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from renoise.errors import InputError
from renoise.outputs.overwriting import check_removable, remove_outputs
from renoise.utils.files import write_atomically, writing_to
from renoise.utils.jsonl import JsonLines, as_lines

SETTINGS, MANIFEST = "settings.json", "manifest.jsonl"
FIRST_ROWS = 1000
"""Libraries learn the types of the columns from so many rows; `datasets` reads the first 10 MB."""
SUMMARY, CONTACT_SHEET = "summary.json", "contact_sheet.png"


class Manifest(JsonLines):
    """One JSON object per image. After a run the rows are sorted by name; before, they are in the order of completion.

    Args:
        folder: The output folder.
        rank: Rank of this process.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from renoise.outputs.manifest import Manifest
        >>> manifest = Manifest(Path(tempfile.mkdtemp()))
        >>> manifest.append([{"file_name": "a.png", "psnr": 26.3}])
        >>> manifest.read()
        [{'file_name': 'a.png', 'psnr': 26.3}]
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        super().__init__(folder / MANIFEST, rank)

    def read(self) -> list[dict[str, Any]]:
        """Returns all rows, one per image. Where an image has several rows, the last one counts.

        Raises:
            InputError: A line is not JSON, or not a row.
        """
        rows: dict[str, dict[str, Any]] = {}
        for path, number, line in self.lines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number} is not JSON ({error}); correct or remove the line") from error
            if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
                raise InputError(
                    f'{path}, line {number} is not an object with a string "file_name"; correct or remove the line'
                )
            rows[row["file_name"]] = row
        return list(rows.values())

    def replace(self, rows: list[dict[str, Any]]) -> None:
        """Writes these rows and no others, into one file. Only one process may call it, while no other appends.

        Args:
            rows: Rows of JSON types.

        Raises:
            OSError: The file system refuses.
        """
        self.merge(as_lines(rows))


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorts rows by name, so that the first rows show the type of every column.

    Where all of the first `FIRST_ROWS` have null in a column, the first row that has a value there moves to the front.

    Args:
        rows: Rows of the manifest.

    Example:
        >>> from renoise.outputs.manifest import in_order
        >>> [row["file_name"] for row in in_order([{"file_name": "b.png"}, {"file_name": "a.png"}])]
        ['a.png', 'b.png']
    """
    by_name = sorted(rows, key=lambda row: str(row["file_name"]))
    first_with_value: dict[str, int] = {}
    for position, row in enumerate(by_name):
        for column, value in row.items():
            if value is not None:
                first_with_value.setdefault(column, position)
    front = {position for position in first_with_value.values() if position >= FIRST_ROWS}
    others = (row for position, row in enumerate(by_name) if position not in front)
    return [*(by_name[position] for position in sorted(front)), *others]


def open_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Checks that a run with `settings` may write to `folder`. Creates the folder, and changes nothing in it.

    Args:
        folder: The output folder.
        settings: Everything that the results depend on, in JSON's types: {"model": {…}, "data": {…}, …}.
        overwrite: Whether the output of other settings may be removed.

    Raises:
        InputError: The folder cannot be created, or holds the output of other settings, and `overwrite` is false or it
            cannot be removed.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    changes = _changes(folder, settings)
    if changes and not overwrite:
        raise InputError(
            f"trainer.default_root_dir: {folder} holds the output of a run with other settings "
            f"({'; '.join(changes)}); choose another folder, or replace the output with --writer.overwrite true"
        )
    if changes:
        check_removable(folder)


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Prepares `folder` for a run with `settings`: removes the output of other settings, keeps that of the same.

    Args:
        folder: The output folder; it exists.
        settings: See `open_folder`.

    Raises:
        InputError: The folder cannot be written.
    """
    with writing_to(folder):
        if _changes(folder, settings):
            # Without the manifest, nothing in the folder counts as done.
            remove_outputs(folder, [*Manifest(folder).files, folder / SUMMARY, folder / CONTACT_SHEET])
        # Characters that are not valid Unicode, in a path for example, become JSON escapes.
        content = json.dumps(settings, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
        write_atomically(folder / SETTINGS, content)


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yields "name was …, now …" for each setting that differs. Objects of one class are compared by their options."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and _class(old) == _class(new):
        old, new = _options(old), _options(new)
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif _are_objects(old) and _are_objects(new) and len(old) == len(new):
        for position, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{name}.{position}")
    elif old != new:
        before, now = _shown(old), _shown(new)
        if before == now:  # two classes of the same name
            before, now = repr(old), repr(new)
        yield f"{name} was {before}, now {now}"


def _changes(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Returns how `settings` differ from those of the output in `folder`, in words.

    Settings without any finished image do not count, so that a corrected command may follow a mistaken one.
    """
    path, started = folder / SETTINGS, bool(Manifest(folder).files)
    try:
        old = json.loads(path.read_text(encoding="utf-8")) if started or path.exists() else settings
    except (FileNotFoundError, ValueError):
        old = None
    if not isinstance(old, dict) or not old.keys() & settings.keys():
        return [f"{SETTINGS} is missing, damaged or not that of a run"]
    return list(differences(old, settings)) if started else []


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _class(value: Mapping[str, Any]) -> Any:
    """Returns the class of an object: a `class_path`, or the `class_name` of a diffusers scheduler. None for others."""
    return value.get("class_path", value.get("class_name"))


def _options(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of an object, with those of its `init_args` beside the others."""
    others = {name: option for name, option in value.items() if name != "init_args"}
    return others | (value.get("init_args") or {})


def _shown(value: Any) -> str:
    """Returns a setting as text, objects by the names of their classes."""
    if isinstance(value, Mapping) and _class(value) is not None:
        return str(_class(value)).rpartition(".")[2]
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else repr(value)
