from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import renoise
from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.outputs.images import to_pil


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> renoise.InversionPipeline:
    return renoise.load(tiny_sd, num_inference_steps=2)


@pytest.fixture(scope="module")
def inverted(pipeline: renoise.InversionPipeline) -> renoise.InvertedImages:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return pipeline.invert(images, ["a cat", "a fox"])


class Refusing(renoise.PromptEditor):
    """Refuses foxes."""

    def refusal(self, request: EditRequest) -> str | None:
        return "no foxes" if "fox" in request.prompt else super().refusal(request)


def test_reconstructions_and_edits_are_pictures_of_the_images_size(inverted: renoise.InvertedImages) -> None:
    for images in (inverted.reconstruct(), inverted.edit("a dog"), inverted.edit(["a dog", "a wolf"])):
        assert [(image.mode, image.size) for image in images] == [("RGB", (32, 32))] * 2
        assert all(isinstance(image, Image.Image) for image in images)


def test_an_editor_is_given_in_place_of_its_options(inverted: renoise.InvertedImages) -> None:
    by_editor = inverted.edit("a dog", editor=renoise.PromptEditor(guidance_scale=2.0))
    assert [image.tobytes() for image in by_editor] == [
        image.tobytes() for image in inverted.edit("a dog", guidance_scale=2.0)
    ]


def test_what_an_edit_cannot_do_is_said(inverted: renoise.InvertedImages) -> None:
    with pytest.raises(InputError, match=r"strength 0\.5 needs an inversion that kept its trajectory"):
        inverted.edit("a dog", strength=0.5)
    with pytest.raises(InputError, match=r"^strength must be in \(0, 1\], got 2"):
        inverted.edit("a dog", strength=2.0)
    with pytest.raises(InputError, match=r"are options of the editor: PromptEditor"):
        inverted.edit("a dog", editor=renoise.PromptEditor(), guidance_scale=2.0)
    with pytest.raises(InputError, match=r"^Refusing cannot edit image-1: no foxes"):
        inverted.edit("a dog", editor=Refusing())
    with pytest.raises(InputError, match=r"^prompt must be one for each of the 2 images, got 1"):
        inverted.edit(["a dog"])


def test_with_its_trajectory_an_inversion_can_be_edited_at_less_strength(pipeline: renoise.InversionPipeline) -> None:
    kept = pipeline.invert(torch.rand(3, 32, 32), "a cat", keep_trajectory=True)
    assert kept.edit("a dog", strength=0.5)[0].size == (32, 32)


def test_each_image_is_edited_within_its_own_mask(pipeline: renoise.InversionPipeline, tmp_path: Path) -> None:
    kept = pipeline.invert(torch.rand(2, 3, 32, 32), "a cat", keep_trajectory=True)
    nowhere = torch.zeros(32, 32, dtype=torch.bool)
    held, free = kept.edit("a dog", mask=[nowhere, ~nowhere])
    assert kept.inversion.image is not None
    image = to_pil(pipeline.model.decode_latents(kept.inversion.image)[0].detach())
    assert list(held.getdata()) == list(image.getdata())
    assert list(free.getdata()) == list(kept.edit("a dog")[1].getdata())
    with pytest.raises(InputError, match=r"^mask: there are 1 masks and 2 images$"):
        kept.edit("a dog", mask=[nowhere])
    kept.save(tmp_path / "both")
    again = renoise.load_inversion(tmp_path / "both" / "image-0.safetensors", pipeline).inversion
    assert again.image is not None
    assert again.image[0].equal(kept.inversion.image[0])


@pytest.mark.parametrize("name", ["../cat", "/cat"])
def test_no_image_is_saved_outside_the_folder(name: str, pipeline: renoise.InversionPipeline, tmp_path: Path) -> None:
    inverted = pipeline.invert(torch.rand(3, 32, 32), names=[name])
    with pytest.raises(InputError, match=r"^names: '.*/cat' leads out of the folder"):
        inverted.save(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []
    inverted.save(tmp_path / "cat.safetensors")
    assert renoise.load_inversion(tmp_path / "cat.safetensors", pipeline).names == [name]


def test_several_images_are_saved_to_a_folder(inverted: renoise.InvertedImages, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a folder"):
        inverted.save(tmp_path / "both.safetensors")
    inverted.save(tmp_path / "both")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["image-0.safetensors", "image-1.safetensors"]
