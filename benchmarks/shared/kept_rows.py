"""Measured rows in a file, so that an interrupted measurement continues where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


class KeptRows(Generic[Row]):
    """Rows in a file of JSON lines, found by a description of what was measured.

    Args:
        path: The file. It need not exist. Rows with other fields, of an older version, are measured again.
        kind: Dataclass of the rows, whose fields are numbers.
    """

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        complete = [line for line in lines if line.endswith("\n")]  # a killed run may have cut off the last one
        fields = inspect.signature(kind).parameters.keys()
        self._rows = {key: kind(**values) for key, values in map(json.loads, complete) if values.keys() == fields}

    def get(self, description: Any, measure: Callable[[], Row]) -> Row:
        """Returns the row of a description. Measures it first if the file does not have it.

        Args:
            description: Everything that the row depends on: JSON types, dataclasses, inversion methods, solvers.
            measure: Returns the row. It is written to the file at once.
        """
        key = json.dumps(description, default=_describe)
        if key not in self._rows:
            self._rows[key] = measure()
            self._append(key, self._rows[key])
        return self._rows[key]

    def _append(self, key: str, row: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # removes a line that was cut off
            file.write((json.dumps([key, dataclasses.asdict(row)]) + "\n").encode())


def fingerprint(folders: Iterable[str]) -> str:
    """Returns a hash of the weights in some folders. A model that was trained again has another one."""
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.safetensors"))
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def _describe(value: Any) -> Any:
    """Returns the class and the constructor's arguments of an object, for `json.dumps`."""
    if dataclasses.is_dataclass(value):
        return {type(value).__name__: {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}}
    return {type(value).__name__: value.init_args}
