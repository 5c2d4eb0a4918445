from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renoise.data import ImageFolderDataModule
from renoise.errors import InputError

HALF = np.zeros((48, 96), bool)
HALF[:, :48] = True


def data(root: Path, mask: np.ndarray | None, mask_name: str = "masks/a.png", **options: str) -> ImageFolderDataModule:
    """A folder with an image of 96 × 48 pixels in a folder of its own, and its mask."""
    (root / "photos/masks").mkdir(parents=True)
    Image.new("RGB", (96, 48), "teal").save(root / "photos/a.png")
    if mask is not None:
        Image.fromarray(mask).save(root / "photos/masks/a.png")
    row = {"file_name": "a.png", "mask": mask_name}
    (root / "photos/metadata.jsonl").write_text(json.dumps(row))
    module = ImageFolderDataModule(root, resolution=32, **options)  # type: ignore[arg-type]
    module.setup("predict")
    return module


def test_a_mask_is_found_beside_the_metadata_and_is_no_image(tmp_path: Path) -> None:
    module = data(tmp_path, HALF, resize="stretch")
    assert [record.file_name for record in module.records] == ["photos/a.png"]
    mask = module.mask("photos/a.png")
    assert mask is not None
    assert mask.shape == (32, 32)
    assert mask[:, :16].all()
    assert not mask[:, 16:].any()


def test_a_mask_is_cropped_and_padded_like_its_image(tmp_path: Path) -> None:
    cropped = data(tmp_path / "crop", HALF, resize="crop").mask("photos/a.png")
    assert cropped is not None
    assert cropped[:, :16].all()  # the middle square, half of it
    padded = data(tmp_path / "pad", np.ones((48, 96), bool), resize="pad").mask("photos/a.png")
    assert padded is not None
    assert padded[8:24].all()
    assert not padded[:8].any()
    assert not padded[24:].any()


@pytest.mark.parametrize(
    ("mask", "name", "message"),
    [
        (HALF[:, :50], "masks/a.png", "has 50×48 pixels and the image 96×48; a mask has the size of its image"),
        (None, "masks/a.png", "is not an image that can be read"),
        (HALF, "../../a.png", "its path leads out of data.root"),
    ],
)
def test_a_wrong_mask_is_named(tmp_path: Path, mask: np.ndarray | None, name: str, message: str) -> None:
    module = data(tmp_path, mask, name)
    with pytest.raises(InputError, match=r"photos/a.png: mask: .*") as caught:
        module.mask("photos/a.png")
    assert message in str(caught.value)


def test_an_image_without_a_mask_has_none(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    module = ImageFolderDataModule(tmp_path)
    module.setup("predict")
    assert module.mask("a.png") is None
