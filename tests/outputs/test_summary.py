from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from renoise.metrics import make_metrics
from renoise.outputs.summary import as_table, summarize

METRICS = make_metrics(["psnr", "ssim", "psnr_vae", "latent_mse"])


def row(status: str = "ok", **values: float | None) -> dict[str, Any]:
    columns = dict.fromkeys((*METRICS, "nfe", "residual", "converged", "fell_back", "seconds"))
    return {"file_name": "a", "status": status} | columns | values


def printed(rows: list[dict[str, Any]], names: list[str] | None = None) -> str:
    metrics = METRICS if names is None else make_metrics(names)
    console = Console(width=150)
    with console.capture() as capture:
        console.print(as_table(summarize(rows, metrics), metrics))
    return capture.get()


def test_means_are_over_the_images_that_did_not_fail() -> None:
    rows = [row(psnr=20.0, seconds=0.2), row(psnr=30.0, seconds=0.3), row("failed", psnr=99.0)]
    summary = summarize(rows, METRICS)
    assert (summary["images"], summary["failed"]) == (3, 1)
    assert summary["psnr"] == 25.0
    assert summary["images_per_second"] == pytest.approx(4.0)


def test_an_image_without_a_value_is_left_out_of_the_mean() -> None:
    summary = summarize([row(psnr=None, ssim=0.5), row(psnr=30.0, ssim=1.0)], METRICS)
    assert (summary["psnr"], summary["ssim"], summary["latent_mse"]) == (30.0, 0.75, None)


def test_residuals_are_averaged_and_converged_images_are_a_share() -> None:
    summary = summarize([row(residual=0.1, converged=True), row(residual=0.3, converged=False)], METRICS)
    assert summary["residual"] == pytest.approx(0.2)
    assert summary["converged"] == 0.5


@pytest.mark.parametrize("rows", [[], [row("failed")]])
def test_without_a_good_image_there_are_no_means(rows: list[dict[str, Any]]) -> None:
    summary = summarize(rows, METRICS)
    assert (summary["images"], summary["failed"]) == (len(rows), len(rows))
    assert {summary[name] for name in summary.keys() - {"images", "failed"}} == {None}
    assert "–" in printed(rows)


def test_the_table_shows_counts_and_means() -> None:
    text = printed([row(psnr=26.318, psnr_vae=28.7, latent_mse=0.0123, nfe=4.0, seconds=0.5), row("failed")])
    for shown in ("26.32", "28.70", "1.23e-02", "4.0", "2.00"):
        assert shown in text


def test_the_table_and_the_summary_have_the_metrics_asked_for_and_no_others() -> None:
    text = printed([row(psnr=26.318, ssim=0.5)], ["ssim"])
    for title in ("images", "failed", "SSIM", "NFE per image", "images per second"):
        assert title in text
    assert "PSNR" not in text
    assert "psnr" not in summarize([row(psnr=26.318, ssim=0.5)], ["ssim"])
