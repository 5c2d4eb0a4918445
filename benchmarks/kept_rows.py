"""Rows of measurements that outlive an interrupted run: JSON lines, each found by what it was measured of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

Row = TypeVar("Row")


def read_rows(kept: Path, kind: type[Row]) -> dict[str, Row]:
    """The rows of a file by their keys, each a dataclass of `kind`; none where there is no file yet.

    A last line without its end was cut off as it was written, and is left out.
    """
    if not kept.exists():
        return {}
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return {key: kind(**values) for key, values in map(json.loads, whole)}


def append_row(kept: Path, key: str, row: Any) -> None:
    """Adds a dataclass of numbers to the file, which is made where there is none; a line that was cut off goes."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write((json.dumps([key, dataclasses.asdict(row)]) + "\n").encode())


def fingerprint(folders: Iterable[str]) -> str:
    """Of the weights in some folders, so that a model trained anew is measured anew."""
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.safetensors"))
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
