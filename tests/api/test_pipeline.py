from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def test_the_same_images_have_the_same_inversion_alone_and_in_a_batch(
    pipeline: renoise.InversionPipeline, files: list[Path]
) -> None:
    both = pipeline.invert(files, ["a cat", "a dog"]).inversion.latents
    alone = pipeline.invert(Image.open(files[1]), "a dog", names=["b"]).inversion.latents
    torch.testing.assert_close(alone, both[1:], rtol=0, atol=1e-4)


def test_images_are_inverted_as_their_latents_are(pipeline: renoise.InversionPipeline, files: list[Path]) -> None:
    prompts, names = ["a cat", "a dog"], ["a", "b"]
    pixels = torch.stack([read_image(file, 48).pixels for file in files])
    inverted = pipeline.invert(files, prompts)
    with torch.no_grad():
        latents, conditioning = pipeline.model.encode_images(pixels), pipeline.model.encode_prompts(prompts)
        inversion = pipeline.invert_latents(latents, conditioning, names)
    assert torch.equal(inverted.inversion.latents, inversion.latents)
    assert (inverted.names, inverted.prompts) == (names, prompts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ["a cat"]}, r"^prompt must be one for each of the 2 images, got 1"),
        ({"names": ["a"]}, r"^names must be one for each of the 2 images, got 1"),
        ({"resolution": 30}, r"^resolution must be a positive multiple of 4, got 30"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: dict[str, Any], message: str, pipeline: renoise.InversionPipeline
) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.invert(torch.zeros(2, 3, 8, 8), **arguments)


def test_an_image_that_cannot_be_inverted_is_named(pipeline: renoise.InversionPipeline) -> None:
    class Failing(renoise.DDIM):
        def invert(self, *arguments: Any, **options: Any) -> renoise.Inversion:
            return replace(super().invert(*arguments, **options), failures={1: "the latents are NaN"})

    failing = renoise.InversionPipeline(pipeline.model, pipeline.scheduler, pipeline.schedule, Failing())
    with pytest.raises(InputError, match=r"^images: image-1: the latents are NaN"):
        failing.invert(torch.zeros(2, 3, 8, 8))


def test_a_progress_bar_is_shown_only_on_request(
    pipeline: renoise.InversionPipeline, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(progress: bool | None) -> list[str]:
        inverted = pipeline.invert(files[0], "a cat", progress=progress)
        inverted.reconstruct(progress)
        inverted.edit("a dog", progress=progress)
        printed = capsys.readouterr()
        assert printed.out == ""
        return [word for word in ("inverting", "sampling") if word in printed.err] if printed.err else []

    assert shown(False) == []
    assert shown(None) == []  # stderr is no terminal
    assert shown(True) == ["inverting", "sampling"]


def test_an_inversion_method_can_be_given_for_one_call(
    pipeline: renoise.InversionPipeline, files: list[Path], tmp_path: Path
) -> None:
    by_call = pipeline.invert(files[0], inversion=renoise.DDIM())
    assert by_call.inversion.nfe.tolist() == [2]
    assert pipeline.invert(files[0]).inversion.nfe.tolist() == [4]
    by_call.save(tmp_path / "a.safetensors")
    loaded = renoise.load_inversion(tmp_path / "a.safetensors")
    assert loaded.settings["inversion"]["class_path"].endswith(".DDIM"), "the file says how it was made"
    with pytest.raises(InputError, match=r"^inversion: EditFriendlyInversion needs a sampler that draws noise"):
        pipeline.invert(files[0], inversion=renoise.EditFriendlyInversion())
