from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

import renoise
from renoise.errors import InputError
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from renoise.models.prediction_type import check_prediction_type


def predicting(kind: str, tiny_sd: Path) -> DiffusionModel:
    """tiny-sd with its predictions converted to v or z_0, as a network trained for that would predict."""
    model = load_model(str(tiny_sd))
    alphas = model.pipeline.scheduler.alphas_cumprod

    def convert(_: object, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        latents, timestep = inputs[:2]
        alpha = float(alphas[int(timestep)])
        clean = (latents - math.sqrt(1 - alpha) * output[0]) / math.sqrt(alpha)
        return (clean if kind == "sample" else math.sqrt(alpha) * output[0] - math.sqrt(1 - alpha) * clean,)

    if kind != "epsilon":
        model.network.register_forward_hook(convert)
    return model


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_scheduler_with_the_right_prediction_type_passes(kind: str, tiny_sd: Path) -> None:
    check_prediction_type(predicting(kind, tiny_sd), kind, "the checkpoint")


@pytest.mark.parametrize("said", ["epsilon", "v_prediction", "sample"])
def test_a_scheduler_with_a_wrong_prediction_type_is_refused_with_the_possible_ones(said: str, tiny_sd: Path) -> None:
    model = predicting("v_prediction" if said == "epsilon" else "epsilon", tiny_sd)
    truth = "v_prediction or sample" if said == "epsilon" else "epsilon"
    with pytest.raises(InputError, match=rf"^checkpoint: .* mine says prediction_type {said}.* predicts {truth}:"):
        check_prediction_type(model, said, "mine")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_is_called_once_in_the_precision_that_it_runs_in(
    dtype: torch.dtype, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.dtype, int]] = []
    forward = UNet2DConditionModel.forward

    def record(self: UNet2DConditionModel, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        seen.append((sample.dtype, len(sample)))
        return forward(self, sample, *args, **options)

    monkeypatch.setattr(UNet2DConditionModel, "forward", record)
    renoise.load(tiny_sd, dtype=dtype)
    assert seen == [(dtype, 1)]
