from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import renoise
from renoise.errors import InputError
from renoise.outputs.manifest import Manifest


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> Path:
    """The output of a run over two images and a broken file."""
    root = pictures(tmp_path_factory.mktemp("run") / "photos", "a.png", "sub/b.png")
    (root / "bad.png").write_bytes(b"")
    out = root.parent / "out"
    assert predict(root, out, "--data.prompt=a cat", "--model.eta=0.5").status == 0
    return out


def test_inversions_are_found_by_position_and_by_name_without_failed_images(folder: Path) -> None:
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


def test_a_torch_data_loader_makes_batches(folder: Path) -> None:
    (batch,) = DataLoader(renoise.load_inversions(folder), batch_size=2)
    assert batch["latent"].shape == (2, 4, 8, 8)
    assert sorted(batch["file_name"]) == ["a.png", "sub/b.png"]


def test_what_is_stored_is_enough_to_reconstruct_the_image(folder: Path) -> None:
    inversions = renoise.load_inversions(folder)
    (image,) = renoise.load_inversion(folder / inversions.rows["sub/b.png"]["inversion"]).reconstruct(progress=False)
    written = Image.open(folder / "reconstructions/sub/b.png.png")
    np.testing.assert_allclose(np.asarray(image, dtype=float), np.asarray(written, dtype=float), atol=1)


def test_metadata_have_the_settings_and_the_facts_of_the_image(folder: Path) -> None:
    inversions = renoise.load_inversions(folder)
    for image in (inversions.names.index("a.png"), "a.png"):
        metadata = inversions.metadata(image)
        assert (metadata["file_name"], metadata["prompt"]) == ("a.png", "a cat")
        assert metadata["image_sha256"] == hashlib.sha256((folder.parent / "photos/a.png").read_bytes()).hexdigest()
        assert metadata["eta"] == 0.5


def test_files_are_read_only_when_they_are_asked_for(folder: Path, tmp_path: Path) -> None:
    row = json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row | {"status": "ok", "inversion": "inversions/gone"}) + "\n")
    inversions = renoise.load_inversions(tmp_path)
    assert len(inversions) == 1
    with pytest.raises(InputError, match="inversions/gone cannot be read"):
        inversions[0]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "status": "ok", "prompt": "", "inversion": "a.safetensors"}
    Manifest(tmp_path).append([row])
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    inversions = renoise.load_inversions(tmp_path)
    for read in (inversions.__getitem__, inversions.metadata):
        with pytest.raises(InputError, match=r"a\.safetensors is damaged"):
            read("a.png")


def test_the_error_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} has no manifest.jsonl; give the output folder of a run"):
        renoise.load_inversions(tmp_path)
    with pytest.raises(KeyError, match=r"has no inversion of 'bad\.png'"):
        renoise.load_inversions(folder)["bad.png"]
    with pytest.raises(IndexError):
        renoise.load_inversions(folder)[2]
