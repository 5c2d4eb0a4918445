"""Tables in Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def markdown(table: pd.DataFrame, formats: Mapping[str, str]) -> str:
    """Returns a table in Markdown. NaN becomes an empty cell.

    Args:
        table: Cells under the names of their columns.
        formats: Format of the values by column, such as {"PSNR (dB)": ".2f"}. Other columns are shown as they are.
    """

    def cell(column: str, value: Any) -> str:
        if pd.isna(value):
            return ""
        return format(value, "" if isinstance(value, str) else formats.get(column, ""))

    columns = list(table.columns)
    rows = [[cell(*pair) for pair in zip(columns, row, strict=True)] for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [columns, ["---"] * len(columns), *rows])


def update_csv(path: Path, table: pd.DataFrame, column: str, order: Sequence[str]) -> None:
    """Writes a table into a CSV file and keeps the file's rows with other values in one column.

    Args:
        path: The file. It need not exist.
        table: The new rows. Floating-point numbers are written with 6 significant digits.
        column: Rows of the file whose value here is in the table too are removed.
        order: Values of that column in the order of the file. Rows of the file with a value not listed are removed.
    """
    text = table.map(lambda value: f"{value:.6g}" if isinstance(value, float) else str(value))
    if path.exists():
        old = pd.read_csv(path, dtype=str)
        text = pd.concat([old[~old[column].isin(table[column])], text])
    text = text[text[column].isin(order)].sort_values(column, key=lambda names: names.map(order.index), kind="stable")
    text.to_csv(path, index=False, lineterminator="\n", columns=list(table.columns))
