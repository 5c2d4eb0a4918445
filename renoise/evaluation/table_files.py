"""Tables as files: CSV, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from renoise.utils.files import write_atomically

FLOAT_FORMAT = "%.6g"


def write_csv(path: Path, table: pd.DataFrame, na_rep: str = "") -> None:
    """Writes a table as CSV. The same numbers give the same bytes.

    Args:
        path: The file.
        table: The table. Numbers are written with 6 significant digits.
        na_rep: Stands for missing values.

    Raises:
        OSError: The file system refuses.
    """
    text = table.to_csv(index=False, float_format=FLOAT_FORMAT, lineterminator="\n", na_rep=na_rep)
    write_atomically(path, text.encode())


def markdown_table(titles: Sequence[str], lines: Iterable[Sequence[str]], rule: str = "---") -> str:
    """Returns a table in Markdown.

    Args:
        titles: Of the columns.
        lines: Cells.
        rule: Stands below each title: "---:" aligns a column to the right.

    Example:
        >>> from renoise.evaluation.table_files import markdown_table
        >>> print(markdown_table(["t", "norm"], [["999", "0.7"]]), end="")
        | t | norm |
        | --- | --- |
        | 999 | 0.7 |
    """
    return "".join(f"| {' | '.join(line)} |\n" for line in [titles, [rule] * len(titles), *lines])
