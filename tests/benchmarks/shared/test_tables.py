from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.shared.tables import markdown, update_csv


def test_cells_are_formatted_by_column_and_missing_ones_are_empty() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "PSNR (dB)": [18.126, float("nan")], "share": [0.5, "*none*"]})
    assert markdown(table, {"PSNR (dB)": ".2f", "share": ".1%"}).splitlines() == [
        "| name | PSNR (dB) | share |",
        "| --- | --- | --- |",
        "| a | 18.13 | 50.0% |",
        "| b |  | *none* |",
    ]


def test_a_csv_file_keeps_the_rows_of_other_suites_in_their_order(tmp_path: Path) -> None:
    path, order = tmp_path / "points.csv", ["first", "second"]

    def rows(suite: str, *values: float) -> pd.DataFrame:
        return pd.DataFrame({"suite": suite, "psnr": values})

    update_csv(path, rows("second", 30.0, 25.5), "suite", order)
    update_csv(path, rows("first", 1 / 3), "suite", order)
    assert path.read_text().splitlines() == ["suite,psnr", "first,0.333333", "second,30", "second,25.5"]
    update_csv(path, rows("first", 20.0), "suite", order)
    assert path.read_text().splitlines() == ["suite,psnr", "first,20", "second,30", "second,25.5"]
    update_csv(path, rows("second", 10.0), "suite", ["second"])
    assert path.read_text().splitlines() == ["suite,psnr", "second,10"], "suites that no longer exist are removed"
