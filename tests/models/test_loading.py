from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from renoise.errors import InputError
from renoise.models.base import DiffusionModel
from renoise.models.loading import FAMILIES, check_prediction_type, load_model
from renoise.models.sdxl import StableDiffusionXL


def predicting(kind: str, tiny_sd: Path) -> DiffusionModel:
    """tiny-sd with its answers turned into v or z_0: exactly what a network trained for that would say."""
    model = load_model(str(tiny_sd))
    alphas = model.pipeline.scheduler.alphas_cumprod

    def convert(_: object, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        latents, timestep = inputs[:2]
        alpha = float(alphas[int(timestep)])
        clean = (latents - math.sqrt(1 - alpha) * output[0]) / math.sqrt(alpha)
        return (clean if kind == "sample" else math.sqrt(alpha) * output[0] - math.sqrt(1 - alpha) * clean,)

    if kind != "epsilon":
        model.unet.register_forward_hook(convert)
    return model


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_scheduler_that_tells_the_truth_passes(kind: str, tiny_sd: Path) -> None:
    check_prediction_type(predicting(kind, tiny_sd), kind, "the checkpoint")


@pytest.mark.parametrize("said", ["epsilon", "v_prediction", "sample"])
def test_a_scheduler_that_is_wrong_is_told_what_the_network_predicts(said: str, tiny_sd: Path) -> None:
    model = predicting("v_prediction" if said == "epsilon" else "epsilon", tiny_sd)
    truth = "v_prediction or sample" if said == "epsilon" else "epsilon"
    with pytest.raises(
        InputError, match=rf"^model\.checkpoint: .* mine says prediction_type {said}.* predicts {truth};"
    ):
        check_prediction_type(model, said, "mine")


def test_an_autoencoder_that_shifts_its_latents_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sd, tmp_path / "model")
    config = tmp_path / "model/vae/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latents_mean": [0.1] * 4}))
    with pytest.raises(InputError, match=r"model\.checkpoint: \S+: its autoencoder shifts latents by a mean"):
        load_model(str(tmp_path / "model"))


def test_every_family_has_its_adapter(tiny_sd: Path, tiny_sdxl: Path) -> None:
    assert type(load_model(str(tiny_sd))) is DiffusionModel
    assert type(load_model(str(tiny_sdxl))) is StableDiffusionXL
    assert set(FAMILIES) == {"StableDiffusionPipeline", "StableDiffusionXLPipeline"}


def test_parts_in_half_precision_files_are_loaded_in_float32(tiny_sdxl: Path) -> None:
    assert {parameter.dtype for parameter in load_model(str(tiny_sdxl)).parameters()} == {torch.float32}
