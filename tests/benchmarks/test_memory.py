from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks import memory
from benchmarks.memory import measure, weights_on_the_device
from benchmarks.shared import full_size
from benchmarks.shared.full_size import parts_of

PUBLISHED = {
    "sd15": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd21": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}
"""Numbers of weights of the published checkpoints."""


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_checkpoint_of_full_size_has_as_many_weights_as_the_published_one(family: str) -> None:
    found = {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts_of(family).items()}
    assert found == PUBLISHED[family]


def test_weights_on_the_device_are_fewer_the_finer_the_off_loading() -> None:
    row = weights_on_the_device("sdxl")
    total = sum(PUBLISHED["sdxl"].values())
    assert row["16 bits"] == pytest.approx(2 * total / 2**30)
    assert row["model"] == pytest.approx(2 * (PUBLISHED["sdxl"]["unet"] + PUBLISHED["sdxl"]["vae"]) / 2**30)
    assert row["16 bits"] > row["model"] > row["group"] > row["sequential"] > 0


def test_a_random_checkpoint_is_inverted_and_its_memory_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    unet = {"sample_size": 8, "block_out_channels": (32, 32, 32, 32), "cross_attention_dim": 16}
    monkeypatch.setattr(full_size, "FAMILIES", {"small": {"unet": unet, "text_encoders": [clip]}})
    monkeypatch.setattr(full_size, "VAE", {**full_size.VAE, "block_out_channels": (32, 32, 32, 32)})
    monkeypatch.setattr(memory, "TRIALS", {"tiles": {"model.vae_tiling": True}, "offload": {"model.offload": "group"}})
    rows = measure(tmp_path, "small", resolution=128, steps=1)
    assert [row["options"] for row in rows] == (["tiles", "offload"] if torch.cuda.is_available() else ["tiles"])
    assert 0.1 < rows[0]["memory"] < 4
    assert math.isnan(rows[0]["GPU memory"]) != torch.cuda.is_available()
