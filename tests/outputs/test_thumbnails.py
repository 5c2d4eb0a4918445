from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from renoise.data import UnreadableImageError
from renoise.outputs.contact_sheet import MAX_ROWS, TILE, contact_sheet, tile
from renoise.outputs.images import to_pil
from renoise.outputs.thumbnails import KEPT, Thumbnails

PIXELS = torch.rand(3, 96, 160, generator=torch.Generator().manual_seed(0))


def never(name: str) -> torch.Tensor:
    raise AssertionError(f"{name} was decoded again")


def gone(name: str) -> torch.Tensor:
    raise UnreadableImageError("does not exist")


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.jpg", "a" * 300, "猫/\udc80.png", "a.jpg/b.png"])
def test_a_thumbnail_is_what_the_sheet_shows_of_the_original(tmp_path: Path, name: str) -> None:
    thumbnails = Thumbnails(tmp_path, ["a.jpg", name])
    thumbnails.save("a.jpg", torch.zeros(3, 8, 8))
    thumbnails.save(name, PIXELS)
    found = thumbnails.read(name, never)
    assert found is not None
    assert found.size == (TILE, TILE)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(tile(to_pil(PIXELS))))
    row = {"file_name": name, "status": "ok", "prompt": "", "edit_prompt": None}
    sheets = [contact_sheet([row], tmp_path, original, []) for original in (lambda _: found, lambda _: to_pil(PIXELS))]
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_an_image_that_is_done_again_has_its_new_thumbnail(tmp_path: Path) -> None:
    for gray in (0.0, 1.0):
        Thumbnails(tmp_path, ["a"]).save("a", torch.full((3, 8, 8), gray))
    picture = Thumbnails(tmp_path, ["a"]).read("a", never)
    assert picture is not None
    assert picture.getpixel((5, 5)) == (255, 255, 255)


def test_only_the_first_images_have_one_and_the_others_are_decoded(tmp_path: Path) -> None:
    names = [f"{number:04}" for number in range(KEPT + 5)]
    assert KEPT >= 2 * MAX_ROWS  # as many may fail
    thumbnails = Thumbnails(tmp_path, reversed(names))
    for name in names:
        thumbnails.save(name, PIXELS)
    assert len(list((tmp_path / "thumbnails").iterdir())) == KEPT
    assert thumbnails.read(names[-1], gone) is None
    decoded = thumbnails.read(names[-1], lambda name: PIXELS)
    assert decoded is not None
    assert decoded.size == (160, 96)


def test_a_thumbnail_of_an_earlier_run_is_removed_when_the_image_is_no_longer_among_the_first(tmp_path: Path) -> None:
    Thumbnails(tmp_path, ["z"]).save("z", torch.zeros(3, 8, 8))
    now = Thumbnails(tmp_path, [f"{number:04}" for number in range(KEPT)] + ["z"])
    now.save("z", PIXELS)
    assert now.read("z", gone) is None


def test_a_damaged_thumbnail_is_made_again_from_the_original(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path, ["a"])
    thumbnails.save("a", torch.zeros(3, 8, 8))
    (file,) = (tmp_path / "thumbnails").iterdir()
    for content in (b"", file.read_bytes()[:60]):
        file.write_bytes(content)
        found = thumbnails.read("a", lambda name: PIXELS)
        assert isinstance(found, Image.Image)
        assert found.size == (160, 96)
