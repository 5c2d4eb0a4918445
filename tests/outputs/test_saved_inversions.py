from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch.utils.data import DataLoader

import renoise
from renoise.core.schedule import Schedule
from renoise.errors import InputError
from renoise.inversion.base import Inversion, sample
from renoise.models.loading import load_model


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> Path:
    """The output of a run over three images, of which one is none."""
    root = pictures(tmp_path_factory.mktemp("photos"), "a.png", "sub/b.png")
    (root / "bad.png").write_bytes(b"")
    out = root.parent / "out"
    assert predict(root, out, "--data.prompt=a cat", "--model.eta=0.5").status == 0
    return out


def test_inversions_are_found_by_position_and_by_name_and_failures_left_out(folder: Path) -> None:
    inversions = renoise.load_inversions(folder)
    assert len(inversions) == 2
    assert sorted(inversions.names) == ["a.png", "sub/b.png"]
    for position, name in enumerate(inversions.names):
        one, same = inversions[position], inversions[name]
        assert one["file_name"] == name
        assert one["prompt"] == "a cat"
        assert one["latent"].shape == (4, 8, 8)
        assert one["noise"].shape == (2, 4, 8, 8)
        assert torch.equal(one["latent"], same["latent"])
    assert "psnr" in inversions.rows["a.png"]


def test_torch_makes_batches_of_them(folder: Path) -> None:
    (batch,) = DataLoader(renoise.load_inversions(folder), batch_size=2)
    assert batch["latent"].shape == (2, 4, 8, 8)
    assert sorted(batch["file_name"]) == ["a.png", "sub/b.png"]


@torch.no_grad()
def test_what_is_stored_is_enough_to_come_back_to_the_reconstruction(folder: Path) -> None:
    inversions = renoise.load_inversions(folder)
    item, facts = inversions["sub/b.png"], inversions.metadata("sub/b.png")
    model = load_model(facts["checkpoint"])
    schedule = Schedule.from_scheduler(
        DDIMScheduler.from_config(facts["scheduler"]), facts["num_inference_steps"], facts["eta"]
    )
    conditioning = model.encode_prompts([facts["prompt"]], facts["guidance_scale"])
    inversion = Inversion(item["latent"][None], schedule, conditioning, item["noise"][:, None])
    image = model.decode_latents(sample(model, inversion))[0]
    written = np.asarray(Image.open(folder / "reconstructions/sub/b.png.png"), dtype=float) / 255
    np.testing.assert_allclose(image.permute(1, 2, 0), written, atol=1 / 255)


def test_files_are_read_when_they_are_asked_for(folder: Path, tmp_path: Path) -> None:
    row = json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row | {"status": "ok", "inversion": "inversions/gone"}) + "\n")
    inversions = renoise.load_inversions(tmp_path)
    assert len(inversions) == 1
    with pytest.raises(InputError, match="inversions/gone cannot be read"):
        inversions[0]


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} holds no manifest.jsonl; it must be the output folder of a run"):
        renoise.load_inversions(tmp_path)
    with pytest.raises(KeyError, match=r"holds no inversion of 'bad\.png'"):
        renoise.load_inversions(folder)["bad.png"]
    with pytest.raises(IndexError):
        renoise.load_inversions(folder)[2]
