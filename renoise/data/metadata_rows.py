"""The rows of metadata files in Hugging Face's three forms: `.jsonl`, `.csv` and `.parquet`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import error_text, parse_json
from renoise.data.records import printable
from renoise.errors import InputError, InputWarning

NAME = "file_name"


class Row(NamedTuple):
    """A row of a metadata file.

    Args:
        place: Where the row is, for messages.
        columns: Its values by column, in JSON types. "file_name" is a string, and not empty.
        error: Why the image of the row cannot be used; None where it can.
    """

    place: str
    columns: dict[str, Any]
    error: str | None = None


def json_rows(path: Path, content: bytes) -> Iterator[Row]:
    """Yields the rows of JSON lines. A line that is no row is skipped with a warning.

    Raises:
        InputError: The file is not UTF-8.
    """
    for number, line in enumerate(_decode(path, content).split("\n"), start=1):  # splitlines() splits inside strings
        if not line.strip():
            continue
        place = printable(f"{path}, line {number}")
        try:
            columns = parse_json(line, place)
        except (ValueError, RecursionError) as error:
            rank_zero_warn(f"{place} is skipped: not JSON ({error})", category=InputWarning)
            continue
        if not isinstance(columns, dict) or not isinstance(columns.get(NAME), str) or not columns[NAME]:
            rank_zero_warn(f'{place} is skipped: not an object with a "{NAME}"', category=InputWarning)
            continue
        yield Row(place, columns)


def csv_rows(path: Path, content: bytes) -> Iterator[Row]:
    """Yields the rows of a table with commas. Values are strings, and an empty cell is None.

    Raises:
        InputError: The file is not UTF-8, its quotes are not balanced, or it has no column "file_name".
    """
    # `newline=""` leaves line ends inside quotes as they are.
    reader = csv.reader(StringIO(_decode(path, content), newline=""), skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, " (columns are separated by commas)")
        line = reader.line_num + 1
        for cells in reader:
            place, line = printable(f"{path}, line {line}"), reader.line_num + 1
            if not any(cells):
                continue
            error = None
            if len(cells) > len(header):
                error = f"the row has {len(cells)} cells and the header {len(header)}; quote texts that contain commas"
            columns = {name: cell or None for name, cell in zip(header, cells, strict=False)}
            if columns.get(NAME) is None:
                rank_zero_warn(f"{place} is skipped: it has no {NAME}", category=InputWarning)
                continue
            yield Row(place, columns, error)
    except csv.Error as error:
        problem = f"line {reader.line_num} is not a row of CSV: {error}; check the quotes around texts"
        raise InputError(f"{path}, {problem}") from None


def parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    """Yields the rows of a Parquet file. NaN and infinity are None.

    Columns that JSON cannot represent are left out with a warning.

    Raises:
        InputError: `pyarrow` is not installed, the file is damaged, or it has no column "file_name".
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f'{path} needs the package `pyarrow`: pip install "renoise[datasets]"') from error
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        columns = {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is not a Parquet file that can be read: {error_text(error)}") from None
    _check_header(path, table.column_names, "")
    for name in [name for name, values in columns.items() if not _is_json(values)]:
        problem = f"the column {name} is left out: {table.schema.field(name).type} has no form in JSON"
        rank_zero_warn(printable(f"{path}: {problem}"), category=InputWarning)
        del columns[name]
    for number in range(table.num_rows):
        place = f"{path}, row {number + 1}"
        row = {name: _finite(values[number]) for name, values in columns.items()}
        if isinstance(row[NAME], str) and row[NAME]:
            yield Row(place, row)
        else:
            rank_zero_warn(f"{place} is skipped: it has no {NAME}", category=InputWarning)


READERS: dict[str, Callable[[Path, bytes], Iterator[Row]]] = {
    "metadata.jsonl": json_rows,
    "metadata.csv": csv_rows,
    "metadata.parquet": parquet_rows,
}
"""What reads a metadata file, by its name."""


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from None


def _check_header(path: Path, header: Sequence[str], advice: str) -> None:
    found = printable(", ".join(map(repr, header)))[:200] or "none"
    if NAME not in header:
        raise InputError(
            f"{path} has no column {NAME}; its columns are: {found}{advice}; correct the file, or rename it if it is "
            "not about the images"
        )
    if len(set(header)) < len(header):
        raise InputError(f"{path} has two columns of one name; its columns are: {found}")


def _is_json(values: list[Any]) -> bool:
    try:
        json.dumps(values)
    except TypeError:  # bytes, dates, decimal numbers
        return False
    return True


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
