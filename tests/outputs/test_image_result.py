from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.data import Encoded, ImageBatch, ImageRecord
from renoise.inversion.base import Inverter
from renoise.models.loading import load_model
from renoise.outputs.image_result import ImageResult, measured, not_finite

RECORD = ImageRecord("a.png", Path("a.png"), "a cat", "a dog", {"license": "CC0", "status": "not ours"})


def test_a_failed_row_has_every_column_of_a_good_one(tiny_sd: Path) -> None:
    model = load_model(str(tiny_sd))
    images = torch.full((1, 3, 32, 32), 0.5)
    batch = ImageBatch(images, [RECORD], ["00"], torch.tensor([[32.0, 32, 0, 0, 32, 32]]), [])
    with torch.no_grad():
        latents = model.encode_images(images)
        inversion = Inverter(model, Schedule.from_scheduler(model.scheduler, 1), Renoising(0)).invert(
            latents, model.encode_prompts(["a cat"]), ["a.png"]
        )
        (good,) = measured(batch, Encoded(latents, torch.ones(1)), inversion, latents, images, {"seed": 3})
    failed = ImageResult.failed(RECORD, "no such thing")
    assert list(good.row) == list(failed.row)
    assert (failed.row["status"], failed.row["error"]) == ("failed", "no such thing")
    assert failed.row["psnr"] is None
    assert failed.row["license"] == good.row["license"] == "CC0"
    assert good.row["status"] == "ok", "the manifest's own columns win"
    assert good.row["psnr"] is None, "the same to the last bit: infinity is no number of JSON"
    assert good.row["latent_mse"] == 0
    assert good.row["nfe"] == 1
    facts = {name: json.loads(value) for name, value in good.metadata.items()}
    assert facts["seed"] == 3
    assert facts["file_name"] == "a.png"
    assert facts["time_ids"] == [32, 32, 0, 0, 32, 32]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_named(bad: float) -> None:
    tensor = torch.zeros(3, 2, 2)
    assert not_finite(tensor) == []
    tensor[1, 0, 1] = bad
    assert not_finite(tensor) == [1]
