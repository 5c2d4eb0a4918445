"""Checks that a data set of `datasets` reads files of its own folder only, and nothing from a network."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load

from renoise.data.files import error_text
from renoise.data.records import path_error, printable
from renoise.errors import InputError


def check_card(root: Path) -> None:
    """Checks the files that a data set's card names: `configs` in README.md and .huggingface.yaml.

    Args:
        root: The data set's folder.

    Raises:
        InputError: A card cannot be read, or names something outside of the folder.
    """
    for path in (root / "README.md", root / ".huggingface.yaml"):
        if not path.is_file():
            continue
        try:
            is_yaml = path.suffix == ".yaml"
            card = yaml.safe_load(path.read_text(encoding="utf-8")) if is_yaml else metadata_load(path)
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise InputError(f"data.root: {path} cannot be read: {error_text(error)}") from None
        for name in _strings(card.get("configs") if isinstance(card, dict) else None):
            _check(root, name, path)


def check_saved(root: Path) -> None:
    """Checks the Arrow files that a saved data set names in dataset_dict.json and state.json.

    Args:
        root: The folder that `save_to_disk` wrote.

    Raises:
        InputError: One of them is outside of the folder.
    """
    dictionary = root / "dataset_dict.json"
    splits = list(_strings(_content(dictionary).get("splits")))
    for split in splits:
        _check(root, split, dictionary)
    for folder in [".", *splits]:
        state = root / folder / "state.json"
        for name in _strings(_content(state).get("_data_files")):
            _check(root, posixpath.join(folder, name), state)


def check_files(root: Path, files: Iterable[str]) -> None:
    """Checks the files that `datasets` found for a data set.

    Args:
        root: The data set's folder.
        files: Paths of the files.

    Raises:
        InputError: One of them is outside of the folder.
    """
    for file in files:
        _check(root, file, root)


def inner_name(root: Path, path: str) -> str:
    """Returns a path relative to the data set's folder, if it is inside; otherwise the path without `.` and `..`.

    Args:
        root: The data set's folder. `datasets` resolves links in its path.
        path: An absolute path, or one relative to the folder.
    """
    name = posixpath.normpath(path)
    for base in (os.path.abspath(root), os.path.realpath(root)):
        if name.startswith(f"{base}/"):
            return name.removeprefix(f"{base}/")
    return name


def _check(root: Path, name: str, place: Path) -> None:
    error = path_error(root, inner_name(root, name))
    if "://" in name or "::" in name:
        error = "is not a file"
    elif name.startswith("~"):
        error = "its path leads out of data.root"
    if error:
        shown = printable(f"{place}: {name!r}"[:300])
        raise InputError(f"data.root: {shown}: {error}; a data set is read from its own folder only")


def _strings(value: Any) -> Iterator[str]:
    """Yields all strings in lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _content(path: Path) -> dict[str, Any]:
    """Returns a JSON file's object, or an empty one where `datasets` will say what is wrong with the file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
