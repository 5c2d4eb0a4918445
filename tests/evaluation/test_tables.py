from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from renoise.evaluation.pie_bench import COLUMNS, pnp_inversion_table
from renoise.evaluation.tables import at_equal, markdown, summary
from renoise.metrics import METRICS

PSNRS = {"plain": [10.0, 20.0, 30.0], "exact": [None, 40.0, 50.0]}


def images(**columns: list[float | None]) -> pd.DataFrame:
    """Rows of three images for each method; NFE is 4 for `plain` and 8 for `exact`."""
    rows = [
        (method, method, "reconstruction", "reconstruction", f"{index}.png", "ok" if value is not None else "failed")
        for method, values in columns.items()
        for index, value in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=["method", "curve", "result", "result_curve", "file_name", "status"])
    table["nfe"] = [4.0] * 3 + [8.0] * 3
    table["psnr"] = [np.nan if value is None else value for values in columns.values() for value in values]
    return table


def curves(**points: list[tuple[float, float]]) -> pd.DataFrame:
    """A summary of curves of (NFE, PSNR)."""
    rows = [
        {"method": f"{curve} {nfe}", "curve": curve, "result": "r", "result_curve": "r", "nfe": nfe, "psnr": value}
        for curve, found in points.items()
        for nfe, value in found
    ]
    return pd.DataFrame(rows)


def test_a_summary_counts_failed_images_and_poor_reconstructions() -> None:
    plain, exact = (row for _, row in summary(images(**PSNRS), ["psnr"]).iterrows())
    assert (plain["psnr"], plain["psnr_std"], plain["psnr_median"], plain["psnr_count"]) == (20, 10, 20, 3)
    assert (plain["failed"], plain["below_15_db"], plain["nfe"]) == (0, 1, 4)
    assert (exact["psnr"], exact["failed"], exact["below_15_db"], exact["psnr_count"]) == (45, 1, 0, 2)


def test_markdown_shows_spread_failures_and_others_numbers() -> None:
    text = markdown(summary(images(**PSNRS), ["psnr"]), {"psnr": METRICS["psnr"]}, {"plain": {"psnr": 11.78}})
    header, _, plain, exact = text.splitlines()
    assert header == "| method | images | NFE | PSNR (dB) | PSNR (dB), others | below 15 dB |"
    assert plain == "| plain | 3 | 4.0 | 20.00 ± 10.00 (20.00) | 11.78 | 1 |"
    assert exact == "| exact | 2 (1 failed) | 8.0 | 45.00 ± 7.07 (45.00) |  | 0 |"


def test_methods_of_others_that_are_not_ours_are_rows_of_their_own() -> None:
    table = summary(images(**PSNRS), ["psnr"])
    text = markdown(table, {"psnr": METRICS["psnr"]}, {"null-text": {"psnr": 27.03, "ssim": 0.8}, "SSIM": {"ssim": 1}})
    assert text.splitlines()[0] == "| method | images | NFE | PSNR (dB) | below 15 dB |"
    assert text.splitlines()[4:] == ["| others: null-text |  |  | 27.03 |  |"]


def test_one_image_has_no_spread() -> None:
    one = images(**PSNRS).iloc[[1]]
    assert "| 20.00 |" in markdown(summary(one, ["psnr"]), {"psnr": METRICS["psnr"]}, {})


def test_curves_are_compared_at_the_largest_nfe_that_all_reach() -> None:
    found = at_equal(curves(steps=[(4, 10), (8, 20), (32, 30)], renoise=[(8, 24), (16, 28)]), "nfe")
    assert found.set_index("method")["psnr"].to_dict() == {"steps": pytest.approx(20 + 10 / 3), "renoise": 28}
    assert set(found["nfe"]) == {16}


def test_curves_are_compared_at_a_given_value_of_a_metric() -> None:
    found = at_equal(curves(steps=[(4, 10), (8, 20)], renoise=[(8, 24), (16, 28)]), "psnr", 15)
    assert found[["method", "nfe"]].to_numpy().tolist() == [["steps", 6.0]]


def test_curves_without_a_common_value_give_an_empty_table() -> None:
    assert at_equal(curves(low=[(1, 1), (2, 2)], high=[(3, 3), (4, 4)]), "nfe", 9).empty


def test_pie_benchs_table_has_the_layout_of_pnp_inversion() -> None:
    rows = [
        {"method": "ddim", "result": result, "file_name": name} | dict.fromkeys(COLUMNS.values(), value)
        for name, result, value in (
            ("a.png", "reconstruction", 9.0),
            ("a.png", "P2P", 0.5),
            ("b.png", "P2P", np.nan),
        )
    ]
    table = pnp_inversion_table(pd.DataFrame(rows), {"a.png": "000000000000", "b.png": "000000000001", "c.png": "2"})
    golden = (
        "file_id,ddim+P2P|structure_distance,ddim+P2P|psnr_unedit_part,ddim+P2P|lpips_unedit_part,"
        "ddim+P2P|mse_unedit_part,ddim+P2P|ssim_unedit_part,ddim+P2P|clip_similarity_source_image,"
        "ddim+P2P|clip_similarity_target_image,ddim+P2P|clip_similarity_target_image_edit_part\n"
        "000000000000,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5\n"
        "000000000001,nan,nan,nan,nan,nan,nan,nan,nan\n"
        "2,nan,nan,nan,nan,nan,nan,nan,nan\n"
    )
    assert table.to_csv(index=False, na_rep="nan", lineterminator="\n") == golden
