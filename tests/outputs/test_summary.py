from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from renoise.outputs.summary import as_table, summarize


def row(status: str = "ok", **values: float | None) -> dict[str, Any]:
    columns = dict.fromkeys(("psnr", "ssim", "psnr_vae", "latent_mse", "nfe", "seconds"))
    return {"file_name": "a", "status": status} | columns | values


def printed(rows: list[dict[str, Any]]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(as_table(summarize(rows)))
    return capture.get()


def test_means_are_over_the_images_that_did_not_fail() -> None:
    rows = [row(psnr=20.0, seconds=0.2), row(psnr=30.0, seconds=0.3), row("failed", psnr=99.0)]
    summary = summarize(rows)
    assert (summary["images"], summary["failed"]) == (3, 1)
    assert summary["psnr"] == 25.0
    assert summary["images_per_second"] == pytest.approx(4.0)


def test_a_value_that_an_image_lacks_is_left_out_of_the_mean() -> None:
    summary = summarize([row(psnr=None, ssim=0.5), row(psnr=30.0, ssim=1.0)])
    assert (summary["psnr"], summary["ssim"], summary["latent_mse"]) == (30.0, 0.75, None)


@pytest.mark.parametrize("rows", [[], [row("failed")]])
def test_without_a_good_image_there_are_no_means(rows: list[dict[str, Any]]) -> None:
    summary = summarize(rows)
    assert (summary["images"], summary["failed"]) == (len(rows), len(rows))
    assert {summary[name] for name in summary.keys() - {"images", "failed"}} == {None}
    assert "–" in printed(rows)


def test_the_table_shows_counts_and_means() -> None:
    text = printed([row(psnr=26.318, psnr_vae=28.7, nfe=4.0, seconds=0.5), row("failed")])
    for shown in ("26.32", "28.70", "4.0", "2.00"):
        assert shown in text
