from __future__ import annotations

import json
import math
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from renoise.data import Encoded, ImageBatch, ImageRecord
from renoise.inversion.base import Inversion
from renoise.metrics import make_metrics
from renoise.outputs.image_result import ImageResult, measure, not_finite

RECORDS = [
    ImageRecord("a.png", Path("a.png"), "a cat", "a dog", {"license": "CC0", "status": "not ours"}),
    ImageRecord("b.png", Path("b.png"), None, None, {}),
]
TIME_IDS = torch.tensor([[32.0, 32, 0, 0, 32, 32], [64.0, 48, 0, 8, 32, 32]])
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
METRICS = make_metrics(["psnr", "ssim", "psnr_vae", "latent_mse"])


def results(names: list[str], residual: torch.Tensor | None = None, converged: torch.Tensor | None = None):
    """Returns the results of two images: the first reconstruction is exact, the second is off by 0.1."""
    batch = ImageBatch(IMAGES, RECORDS, ["00", "01"], TIME_IDS, [])
    inversion = Inversion(LATENTS, Mock(), Mock(), nfe=torch.tensor([1, 2]), residual=residual, converged=converged)
    shift = torch.tensor([0.0, 0.1])[:, None, None, None]
    encoded = Encoded(LATENTS, IMAGES + 0.01)
    settings = {"model": {"seed": 3}}
    return measure(batch, encoded, inversion, LATENTS + shift, IMAGES + shift, make_metrics(names), settings)


@pytest.mark.parametrize("names", [[], ["psnr"], ["latent_mse", "ssim"], list(METRICS)])
def test_a_failed_row_has_every_column_of_a_good_one(names: list[str]) -> None:
    good, _ = results(names)
    failed = ImageResult.failed(RECORDS[0], "no such thing", make_metrics(names))
    columns = [*names, "nfe", "residual", "converged", "fell_back", "seconds", "inversion", "edits"]
    assert list(good.row) == list(failed.row)
    own = ["file_name", "status", "error", "prompt", "edit_prompt", *columns]
    assert list(good.row) == ["license", "data_status", *own]
    assert (failed.row["status"], failed.row["error"]) == ("failed", "no such thing")
    assert {failed.row[name] for name in columns[:-1]} == {None}
    assert failed.row["license"] == good.row["license"] == "CC0"
    assert (good.row["status"], good.row["data_status"]) == ("ok", "not ours")


def test_a_row_has_the_metrics_of_its_image() -> None:
    exact, other = (result.row for result in results(list(METRICS)))
    assert exact["psnr"] is None, "the PSNR of equal images is infinite, which JSON cannot represent"
    assert other["psnr"] == pytest.approx(20, abs=1e-4)
    assert exact["psnr_vae"] == pytest.approx(40, abs=1e-3)
    assert (exact["ssim"], exact["latent_mse"]) == (1, 0)
    assert other["latent_mse"] == pytest.approx(0.01)
    assert (exact["nfe"], other["nfe"]) == (1, 2)


def test_residual_and_converged_are_null_where_the_inversion_has_none() -> None:
    assert {(result.row["residual"], result.row["converged"]) for result in results([])} == {(None, None)}
    first, second = results([], torch.tensor([0.25, math.nan]), torch.tensor([True, False]))
    assert (first.row["residual"], first.row["converged"]) == (0.25, True)
    assert (second.row["residual"], second.row["converged"]) == (None, False)
    assert json.dumps(second.row, allow_nan=False)


def test_a_result_has_what_the_files_of_its_image_need() -> None:
    first, second = results(["psnr"])
    assert first.metadata == {
        "model": {"seed": 3},
        "file_name": "a.png",
        "prompt": "a cat",
        "image_sha256": "00",
        "time_ids": TIME_IDS[0].tolist(),
        "follows_trajectory": False,
    }
    assert second.metadata["prompt"] == ""
    assert torch.equal(second.tensors["latent"], LATENTS[1])
    assert second.reconstruction is not None
    assert torch.equal(second.reconstruction, IMAGES[1] + 0.1)
    assert first.edits == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_positions_that_are_not_finite_are_found(bad: float) -> None:
    tensor = torch.zeros(3, 2, 2)
    assert not_finite(tensor) == []
    tensor[1, 0, 1] = bad
    assert not_finite(tensor) == [1]
