from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.edit_evaluation import EditEvaluation
from benchmarks.edit_sweeps import COLUMNS, Point, at_share, sweeps, table, write_csv


def point(
    guidance: float, share: float, psnr: float, rows: float = 40, editor: str = "Swap", inversion: str = "ddim"
) -> Point:
    found = EditEvaluation(share, 17 + guidance, psnr, 0.9, 0.05, rows, 0.1 * rows, 20)
    return Point(editor, inversion, guidance, found)


def test_the_best_place_is_where_a_falling_background_meets_the_wanted_share() -> None:
    found = at_share([point(1, 0.5, 30, rows=20), point(2, 1.0, 25), point(3, 1.0, 20)], wanted=0.9)
    assert found is not None
    assert found.guidance_scale == pytest.approx(1.8)
    assert found.found.target_share == pytest.approx(0.9)
    assert found.found.background_psnr == pytest.approx(26)
    assert found.found.target_psnr == pytest.approx(18.8)
    assert (found.found.nfe, found.found.seconds) == (40, 4), "costs jump with guidance"


def test_a_measured_point_wins_where_it_keeps_more() -> None:
    sweep = [point(1, 0.8, 22), point(1.5, 1.0, 26), point(2, 1.0, 24), point(3, 0.6, 27)]
    found = at_share(sweep, wanted=0.9)
    assert found == sweep[1]
    falling = at_share([point(2, 1.0, 24), point(3, 0.8, 28)], wanted=0.9)
    assert falling is not None
    assert falling.found.background_psnr == pytest.approx(26), "a share may fall with guidance"


def test_exactly_the_wanted_share_is_enough_and_less_never_is() -> None:
    sweep = [point(1, 0.9, 30), point(2, 0.5, 25)]
    assert at_share(sweep, wanted=0.9) == sweep[0]
    assert at_share(sweep, wanted=0.91) is None


def test_sweeps_are_grouped_by_editor_and_rise() -> None:
    points = [
        point(2, 1, 20, inversion="a"),
        point(1, 1, 20, inversion="a"),
        point(1, 1, 20, editor="Other", inversion="a"),
        point(1, 1, 20, inversion="b"),
    ]
    found = sweeps(points)
    assert list(found) == [("Swap", "a"), ("Swap", "b"), ("Other", "a")]
    assert [each.guidance_scale for each in found["Swap", "a"]] == [1, 2]


def test_the_table_has_a_line_per_pair_and_says_where_the_share_is_not_reached() -> None:
    good = [point(1, 0.5, 30), point(2, 1.0, 25)]
    poor = [
        point(1, 0.25, 30, inversion="bad"),
        point(2, 0.75, 21, inversion="bad"),
        point(3, 0.5, 20, inversion="bad"),
    ]
    lines = table([*good, *poor]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2:] == [
        "| Swap | ddim | 1.80 | 90.0% | 18.80 | 26.00 | 0.900 | 0.0500 | 20 | 40 | 4.000 |",
        "| Swap | bad | 2.00 | *75.0%* | 19.00 | 21.00 | 0.900 | 0.0500 | 20 | 40 | 4.000 |",
    ]


def test_the_csv_holds_every_point_and_keeps_other_suites(tmp_path: Path) -> None:
    path, suites = tmp_path / "edits.csv", ["first", "second"]

    def read() -> list[tuple[str, str, float]]:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(tuple(row) == COLUMNS for row in rows)
        return [(row["suite"], row["guidance_scale"], float(row["background_psnr"])) for row in rows]

    write_csv(path, suites, {"second": [point(1, 0.5, 30), point(1.5, 1.0, 25)]})
    write_csv(path, suites, {"first": [point(2, 0.5, 1 / 3)]})
    kept = [("second", "1", 30.0), ("second", "1.5", 25.0)]
    assert read() == [("first", "2", 0.333333), *kept]
    write_csv(path, suites, {"first": [point(3, 0.5, 20)]})
    assert read() == [("first", "3", 20.0), *kept]
    write_csv(path, ["second"], {"second": [point(1, 0.5, 10)]})
    assert read() == [("second", "1", 10.0)], "suites that are no more go"
