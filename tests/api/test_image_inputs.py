from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from renoise.api.image_inputs import ImageInput, one_for_each, prepare_images
from renoise.data import read_image
from renoise.errors import InputError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Path]) -> list[Path]:
    root = pictures(tmp_path_factory.mktemp("photos"), "a.png", "b.png")
    return [root / "a.png", root / "b.png"]


def to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def test_every_form_of_an_image_gives_the_same_pixels(files: list[Path]) -> None:
    opened = [Image.open(file) for file in files]
    tensors = [to_tensor(image) for image in opened]
    expected = torch.stack([read_image(file, 48).pixels for file in files])
    paths = [str(file) for file in files]
    forms: list[ImageInput] = [files, paths, opened, tensors, torch.stack(tensors), [files[0], opened[1]]]
    for images in forms:
        prepared = prepare_images(images, ["a", "b"], None, 4)
        assert torch.equal(prepared.pixels, expected)
        assert prepared.time_ids.tolist() == [[48, 48, 0, 0, 48, 48]] * 2


def test_a_single_image_is_a_batch_of_one(files: list[Path]) -> None:
    image = Image.open(files[0])
    for single in (files[0], str(files[0]), image, to_tensor(image)):
        assert prepare_images(single, None, None, 4).pixels.shape == (1, 3, 48, 48)


def test_files_have_the_names_of_their_stems_and_other_images_are_numbered(files: list[Path]) -> None:
    assert prepare_images(files, None, None, 4).names == ["a", "b"]
    assert prepare_images(torch.zeros(2, 3, 8, 8), None, None, 4).names == ["image-0", "image-1"]
    assert prepare_images(files, ["x", "y"], None, 4).names == ["x", "y"]


def test_images_of_any_size_are_cropped_and_resized_to_the_resolution(files: list[Path]) -> None:
    prepared = prepare_images([files[0], Image.new("RGB", (90, 50))], None, 32, 4)
    assert prepared.pixels.shape == (2, 3, 32, 32)
    assert torch.equal(prepared.pixels[0], read_image(files[0], 32).pixels)


def test_images_without_a_resolution_need_not_be_square() -> None:
    assert prepare_images(Image.new("RGB", (64, 48)), None, None, 4).pixels.shape == (1, 3, 48, 64)


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        ([], {}, r"^images must hold at least one image"),
        (torch.zeros(0, 3, 8, 8), {}, r"^images must hold at least one image"),
        ("no.png", {}, r"^images: no\.png does not exist"),
        ([3], {}, r"^images must be PIL images, paths or tensors, got int"),
        (Image.new("RGB", (50, 48)), {}, r"^images: image-0 is 48×50, and the model takes multiples of 4; give resol"),
        ([Image.new("RGB", (48, 48)), Image.new("RGB", (64, 48))], {}, r"image-1 is 48×64, and the first .* is 48×48"),
        (torch.zeros(3, 8), {}, r"^images: image-0 must be a float tensor \[3, H, W\]"),
        (torch.zeros(3, 0, 0), {}, r"^images: image-0 must be a float tensor .* got torch\.float32 \[3, 0, 0\]"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), {}, r"^images: image-0 must be a float tensor .* got torch\.uint8"),
        (torch.full((3, 8, 8), 2.0), {}, r"^images: image-0 must be in \[0, 1\], got 2 to 2"),
        (torch.full((3, 8, 8), float("nan")), {}, r"^images: image-0 must be in \[0, 1\], got nan"),
        (torch.zeros(3, 8, 8), {"resolution": 16}, r"^images: image-0 is a tensor of 8×8; resolution is for PIL"),
        (Image.new("RGB", (48, 48)), {"resolution": 30}, r"^resolution must be a positive multiple of 4, got 30"),
        (Image.new("RGB", (48, 48)), {"resolution": 0}, r"^resolution must be a positive multiple of 4, got 0"),
        (torch.zeros(2, 3, 8, 8), {"names": ["a"]}, r"^names must be one for each of the 2 images, got 1"),
        (torch.zeros(2, 3, 8, 8), {"names": ["a", "a"]}, r"^names must differ, got a, a"),
        (["x/a.png", "y/a.png"], {}, r"^names must differ, got a, a; give one for each image"),
    ],
)
def test_a_wrong_image_resolution_or_name_is_named(images: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_images(images, **{"names": None, "resolution": None, "size_multiple": 4, **arguments})


@pytest.mark.parametrize("resolution", [None, 32])
def test_a_file_that_is_no_image_is_named(resolution: int | None, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"^images: .*text\.png is not an image in a known format"):
        prepare_images(tmp_path / "text.png", None, resolution, 4)
    with pytest.raises(InputError, match=r"^images: .* is a folder, not a file"):
        prepare_images(tmp_path, None, resolution, 4)


def test_a_picture_of_a_turned_camera_is_upright_and_whole_from_a_file_and_from_memory(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = tmp_path / "phone.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)).save(path, exif=exif)
    from_file, in_memory = (prepare_images(image, None, None, 4) for image in (path, Image.open(path)))
    assert from_file.pixels.shape == (1, 3, 64, 32)
    assert torch.equal(from_file.pixels, in_memory.pixels)


def test_one_text_is_repeated_for_every_image() -> None:
    assert one_for_each("a cat", 2, "prompt") == ["a cat", "a cat"]
    assert one_for_each(["a cat", "a dog"], 2, "prompt") == ["a cat", "a dog"]
