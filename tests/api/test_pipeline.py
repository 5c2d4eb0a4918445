from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import renoise
from renoise.data import read_image
from renoise.errors import InputError


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> renoise.InversionPipeline:
    return renoise.load(tiny_sd, num_inference_steps=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Path]) -> list[Path]:
    root = pictures(tmp_path_factory.mktemp("photos"), "a.png", "b.png")
    return [root / "a.png", root / "b.png"]


def test_paths_pictures_and_tensors_give_the_same_latents(
    pipeline: renoise.InversionPipeline, files: list[Path]
) -> None:
    opened = [Image.open(file) for file in files]
    tensors = torch.stack([torch.from_numpy(np.asarray(image)).permute(2, 0, 1) / 255 for image in opened])
    prompts, names = ["a cat", "a dog"], ["a", "b"]
    inversions = [
        pipeline.invert(images, prompts, names=names).inversion
        for images in (files, [str(file) for file in files], opened, tensors, list(tensors))
    ]
    for inversion in inversions[1:]:
        assert torch.equal(inversion.latents, inversions[0].latents)


def test_it_is_what_the_command_line_does(
    pipeline: renoise.InversionPipeline, files: list[Path], tmp_path: Path, predict: Callable[..., Any]
) -> None:
    texts = [{"file_name": file.name, "text": "a cat"} for file in files]
    (files[0].parent / "metadata.jsonl").write_text("\n".join(map(json.dumps, texts)))
    options = ["--model.scheduler=LCMScheduler", "--model.inversion.iterations=1"]
    assert predict(files[0].parent, tmp_path / "out", *options).status == 0
    again = renoise.load(pipeline.model.pipeline, scheduler="LCMScheduler", num_inference_steps=2)
    inverted = again.invert(files, "a cat", names=[file.name for file in files], resolution=32)
    for index, file in enumerate(files):
        saved = load_file(tmp_path / f"out/inversions/{file.name}.safetensors")
        torch.testing.assert_close(inverted.inversion.latents[index], saved["latent"], rtol=0, atol=1e-4)
        assert inverted.inversion.noise is not None
        assert torch.equal(inverted.inversion.noise[:, index], saved["noise"])


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        ([], {}, r"^images must hold at least one image"),
        ("no.png", {}, r"^images: no\.png does not exist"),
        (3, {}, r"^images must be PIL images, paths or tensors"),
        (Image.new("RGB", (50, 48)), {}, r"^images: image-0 is 48×50, and the model takes multiples of 4"),
        ([Image.new("RGB", (48, 48)), Image.new("RGB", (64, 48))], {}, r"image-1 is 48×64, and the first .* is 48×48"),
        (torch.zeros(3, 8), {}, r"^images: image-0 must be a float tensor \[3, H, W\]"),
        (torch.full((3, 8, 8), 2.0), {}, r"^images: image-0 must be in \[0, 1\], got 2 to 2"),
        (torch.zeros(2, 3, 8, 8), {"prompt": ["a cat"]}, r"^prompt must be one for each of the 2 images, got 1"),
        (torch.zeros(2, 3, 8, 8), {"names": ["a"]}, r"^names must be one for each of the 2 images, got 1"),
        (torch.zeros(2, 3, 8, 8), {"names": ["a", "a"]}, r"^names must differ, got a, a"),
    ],
)
def test_a_wrong_image_prompt_or_name_is_named(
    images: Any, arguments: dict[str, Any], message: str, pipeline: renoise.InversionPipeline
) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.invert(images if isinstance(images, list | torch.Tensor) else [images], **arguments)


def test_a_progress_bar_is_shown_only_on_request(
    pipeline: renoise.InversionPipeline, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.invert(files[0])
    assert "inverting" not in capsys.readouterr().err
    pipeline.invert(files[0], progress=True)
    assert "inverting" in capsys.readouterr().err


def test_a_single_path_is_one_image(pipeline: renoise.InversionPipeline, files: list[Path]) -> None:
    pixels = read_image(files[0], 48).pixels
    assert torch.equal(
        pipeline.invert(files[0]).inversion.latents, pipeline.invert(pixels, names=["a"]).inversion.latents
    )
