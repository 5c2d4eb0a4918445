from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from benchmarks.evaluation import UNSEEN_SEED
from benchmarks.inversion_benchmark import accuracy, overhead, peak_memory
from renoise.core.renoise import Renoising
from renoise.models.loading import load_model
from tiny_models.data import VALIDATION_SEED
from tiny_models.scenes import TRAINING_SEED, random_scenes


def test_the_benchmark_measures_on_scenes_that_no_model_trained_on() -> None:
    assert UNSEEN_SEED not in (TRAINING_SEED, VALIDATION_SEED)


def test_accuracy_is_the_mean_over_the_images_whatever_the_batch_size(tiny_sd: Path) -> None:
    model, scenes = load_model(str(tiny_sd)), random_scenes(3, UNSEEN_SEED)
    together = accuracy(model, scenes, 2, Renoising(0), batch_size=3)
    in_parts = accuracy(model, scenes, 2, Renoising(0), batch_size=2)
    torch.testing.assert_close(
        *(
            torch.tensor([value for value in vars(found).values() if value is not None])
            for found in (together, in_parts)
        ),
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_overhead_compares_an_inversion_with_as_many_network_calls(tiny_sd: Path) -> None:
    model, calls = load_model(str(tiny_sd)), []
    model.unet.register_forward_hook(lambda *_: calls.append(time.perf_counter()))
    ratio = overhead(model, batch_size=2, steps=3, repeats=1)
    assert len(calls) == 2 * (2 * 3 + 2 * 3)  # warm-up and one repeat, each K + 1 = 2 calls a step, twice
    assert ratio > 0


def test_peak_memory_is_that_of_a_real_run(tiny_sd: Path) -> None:
    weights = sum(path.stat().st_size for path in tiny_sd.rglob("*.safetensors"))
    assert peak_memory(str(tiny_sd), 2) > 2 * weights  # they are held in float32
    with pytest.raises(RuntimeError, match="ended with status 2"):
        peak_memory("no/such/checkpoint", 1)
