from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from benchmarks.edit_tables import at_share, curves, sweeps, table


def points(*rows: tuple[float, float, float], nfe: float = 40, **names: str) -> pd.DataFrame:
    """A sweep of guidance, share that the strict judge accepts, and background PSNR."""
    named = {"suite": "tiny", "editor": "Swap", "inversion": "ddim", **names}
    costs = {"nfe": nfe, "seconds": 0.1 * nfe, "inversion_nfe": 20.0}
    kept = {"background_ssim": 0.9, "structure_distance": 0.05}
    return pd.DataFrame(
        [
            {
                **named,
                "guidance_scale": guidance,
                "target_share": (1 + share) / 2,
                "strict_share": share,
                "target_psnr": 17 + guidance,
                "background_psnr": psnr,
                **kept,
                **costs,
            }
            for guidance, share, psnr in rows
        ]
    )


def found(sweep: pd.DataFrame, wanted: float = 0.9) -> Any:
    point = at_share(sweep, wanted)
    assert point is not None
    return point


def test_the_best_point_is_where_the_wanted_share_is_crossed_if_the_background_falls() -> None:
    sweep = pd.concat([points((1, 0.5, 30), nfe=20), points((2, 1.0, 25), (3, 1.0, 20))])
    point = found(sweep)
    assert point.guidance_scale == pytest.approx(1.8)
    assert point.strict_share == pytest.approx(0.9)
    assert point.background_psnr == pytest.approx(26)
    assert point.target_psnr == pytest.approx(18.8)
    assert (point.nfe, point.seconds) == (40, 4), "costs are not interpolated"


def test_the_best_point_is_a_measured_one_if_it_keeps_more() -> None:
    sweep = points((1, 0.8, 22), (1.5, 1.0, 26), (2, 1.0, 24), (3, 0.6, 27))
    assert found(sweep).equals(sweep.iloc[1])
    assert found(points((2, 1.0, 24), (3, 0.8, 28))).background_psnr == pytest.approx(26), "a share may fall"


def test_a_share_that_is_just_reached_is_enough() -> None:
    sweep = points((1, 0.9, 30), (2, 0.5, 25))
    assert found(sweep).equals(sweep.iloc[0])
    assert at_share(sweep, wanted=0.91) is None


def test_sweeps_are_grouped_by_editor_and_sorted_by_guidance() -> None:
    every = [
        points((2, 1, 20), (1, 1, 20), inversion="a"),
        points((1, 1, 20), editor="Other", inversion="a"),
        points((1, 1, 20), inversion="b"),
    ]
    grouped = dict(sweeps(pd.concat(every)))
    assert list(grouped) == [("Swap", "a"), ("Swap", "b"), ("Other", "a")]
    assert list(grouped["Swap", "a"].guidance_scale) == [1, 2]


def test_the_table_has_a_row_per_pair_and_shows_where_the_share_is_not_reached() -> None:
    poor = points((1, 0.25, 30), (2, 0.75, 21), (3, 0.5, 20), inversion="bad")
    lines = table(pd.concat([points((1, 0.5, 30), (2, 1.0, 25)), poor])).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2:] == [
        "| Swap | ddim | 1.80 | 95.0% | 90.0% | 18.80 | 26.00 | 0.900 | 0.0500 | 20 | 40 | 4.000 |",
        "| Swap | bad | 2.00 | 87.5% | *75.0%* | 19.00 | 21.00 | 0.900 | 0.0500 | 20 | 40 | 4.000 |",
    ]


def test_curves_have_a_panel_per_editor() -> None:
    every = pd.concat([points((1, 0.5, 30), (1.5, 1, 25)), points((1, 1, 20), editor="Other")])
    assert curves(every) == {
        "Swap": {"ddim": [(50.0, 30, "1"), (100.0, 25, "1.5")]},
        "Other": {"ddim": [(100.0, 20, "1")]},
    }
