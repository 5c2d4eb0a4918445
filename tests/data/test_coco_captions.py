from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from renoise.data import CocoCaptionsDataModule, read_image
from renoise.errors import InputError, InputWarning
from renoise.outputs.manifest import Manifest

SIZES = {"0003.png": (640, 421), "0001.png": (421, 421), "0002.png": (420, 640), "0004.png": (640, 420)}


@pytest.fixture
def coco(tmp_path: Path, pictures: Callable[..., Path]) -> Path:
    """COCO's folders with four images, of which two are large according to the annotations."""
    root = tmp_path / "coco"
    pictures(root / "val2017", *SIZES)
    images = [
        {"id": int(name[:4]), "file_name": name, "width": width, "height": height, "license": 1}
        for name, (width, height) in SIZES.items()
    ]
    captions = [
        {"id": 30, "image_id": 1, "caption": "the second"},
        {"id": 7, "image_id": 1, "caption": " the first \n"},
        {"id": 8, "image_id": 2, "caption": "of a small one"},
    ]
    write(root, {"info": {}, "images": images, "annotations": captions})
    return root


def write(root: Path, content: Any) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/captions_val2017.json").write_text(json.dumps(content))


def test_large_images_have_their_first_captions(coco: Path) -> None:
    data = CocoCaptionsDataModule(coco, prompt="a photo")
    data.setup("predict")
    assert [(each.file_name, each.prompt, each.edit_prompt, each.extra, each.error) for each in data.records] == [
        ("0001.png", "the first", None, {"image_id": 1, "captions": ["the first", "the second"]}, None),
        ("0003.png", "a photo", None, {"image_id": 3, "captions": []}, None),
    ]


def test_min_side_and_captions_can_be_changed(coco: Path) -> None:
    data = CocoCaptionsDataModule(coco, min_side=419, captions=False)
    data.setup("predict")
    assert {each.file_name: each.prompt for each in data.records} == dict.fromkeys(sorted(SIZES), "")


def test_an_image_that_is_missing_or_outside_of_the_folder_has_an_error(coco: Path) -> None:
    (coco / "val2017/0001.png").unlink()
    annotations = json.loads((coco / "annotations/captions_val2017.json").read_text())
    annotations["images"] += [{"id": 9, "file_name": "../../secret.png", "width": 999, "height": 999}]
    write(coco, annotations)
    data = CocoCaptionsDataModule(coco)
    data.setup("predict")
    errors = {each.file_name: (each.error or "").split(" (")[0] for each in data.records}
    assert errors == {
        "../../secret.png": "its path leads out of data.root",
        "0001.png": "does not exist",
        "0003.png": "",
    }


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_contain_the_images_of_the_folder(coco: Path, num_workers: int) -> None:
    data = CocoCaptionsDataModule(coco, resolution=16, num_workers=num_workers)
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    for pixels, record in zip(batch.images, batch.records, strict=True):
        assert torch.equal(pixels, read_image(coco / "val2017" / record.file_name, 16).pixels)


def test_broken_entries_are_skipped_and_counted_in_one_warning(coco: Path) -> None:
    annotations = json.loads((coco / "annotations/captions_val2017.json").read_text())
    broken = [7, None, {}, {"id": [1], "file_name": "a", "width": 999, "height": 999}]
    broken += [{"id": 1, "file_name": name, "width": width, "height": 999} for name, width in (("", 999), ("a", "999"))]
    annotations["images"] += broken
    annotations["annotations"] += [7, {"image_id": 3, "id": 1}, {"image_id": 3, "id": 2, "caption": float("nan")}]
    annotations["annotations"] += [{"image_id": 3, "id": 3, "caption": " "}, {"image_id": 3, "id": "4", "caption": "x"}]
    write(coco, annotations)
    data = CocoCaptionsDataModule(coco)
    with pytest.warns(InputWarning) as caught:
        data.setup("predict")
    path = coco / "annotations/captions_val2017.json"
    assert [str(each.message) for each in caught] == [
        f"{path}: 6 of 10 images are skipped, the first of them [4]: not in COCO's format",
        f"{path}: 5 of 8 annotations are skipped, the first of them [3]: not in COCO's format",
    ]
    assert {each.file_name: each.prompt for each in data.records} == {"0001.png": "the first", "0003.png": ""}


def test_images_and_captions_that_belong_to_no_entry_are_warned_of(coco: Path) -> None:
    annotations = json.loads((coco / "annotations/captions_val2017.json").read_text())
    annotations["images"] = [
        *annotations["images"][:3],
        {"id": 9, "file_name": "x", "width": float("nan"), "height": 9},
    ]
    annotations["annotations"].append({"image_id": 77, "id": 1, "caption": "lost"})
    write(coco, annotations)
    with pytest.warns(InputWarning) as caught:
        CocoCaptionsDataModule(coco).setup("predict")
    path = coco / "annotations/captions_val2017.json"
    assert [str(each.message) for each in caught] == [
        f"{path}: 1 of 4 images are skipped, the first of them [3]: not in COCO's format",
        f"{path}: captions are left out because their images are not listed; their image_id (1): 77",
        f"{path}: images in {coco}/val2017 are left out because they are not listed (1): 0004.png",
    ]


def test_the_first_of_two_images_of_one_name_counts(coco: Path) -> None:
    annotations = json.loads((coco / "annotations/captions_val2017.json").read_text())
    annotations["images"].append({"id": 5, "file_name": "./0001.png", "width": 999, "height": 999})
    write(coco, annotations)
    data = CocoCaptionsDataModule(coco)
    with pytest.warns(InputWarning, match=r"image 5 is skipped: 0001\.png is already in .*, image 1"):
        data.setup("predict")
    assert [each.extra["image_id"] for each in data.records] == [1, 3]


def test_entries_that_json_cannot_represent_have_an_error(coco: Path) -> None:
    annotations = json.loads((coco / "annotations/captions_val2017.json").read_text())
    annotations["images"].append({"id": 5, "file_name": "\ud800.png", "width": 999, "height": 999})
    annotations["images"].append({"id": 6, "file_name": "small.png", "width": float("nan"), "height": 999})
    annotations["annotations"].append({"id": 1, "image_id": 3, "caption": "half \ud800"})
    write(coco, annotations)
    data = CocoCaptionsDataModule(coco)
    data.setup("predict")
    errors = {each.file_name: (each.error or "").split(" (")[0] for each in data.records}
    assert errors == {
        "0001.png": "",
        "0003.png": "the row is not valid Unicode",
        "\\ud800.png": "the row is not valid Unicode",
    }


def test_a_file_without_captions_can_be_used_if_captions_is_false(coco: Path) -> None:
    annotations = json.loads((coco / "annotations/captions_val2017.json").read_text())
    del annotations["annotations"]
    write(coco, annotations)
    data = CocoCaptionsDataModule(coco, captions=False, prompt="a photo")
    data.setup("predict")
    assert [(each.prompt, each.extra["captions"]) for each in data.records] == [("a photo", [])] * 2
    with pytest.raises(InputError, match="does not contain COCO's captions"):
        CocoCaptionsDataModule(coco).setup("predict")


def test_a_missing_folder_of_images_is_an_error(coco: Path) -> None:
    with pytest.raises(InputError, match=r"data\.images: .*coco/train2017 does not exist"):
        CocoCaptionsDataModule(coco, images="train2017").setup("predict")
    with pytest.raises(InputError, match=r"data\.images: .*\.json is not a folder"):
        CocoCaptionsDataModule(coco, images="annotations/captions_val2017.json").setup("predict")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "does not contain COCO's captions"),
        ({"images": [{"id": 1}], "annotations": []}, "does not contain COCO's captions"),
        ({"images": [{"id": 1, "file_name": "a", "width": "x", "height": 2}], "annotations": []}, "COCO's captions"),
        ({"images": [], "annotations": []}, "no images whose sides both exceed 420 pixels"),
    ],
)
def test_annotations_in_another_format_are_an_error(coco: Path, content: Any, problem: str) -> None:
    write(coco, content)
    with pytest.raises(InputError, match=problem) as raised:
        CocoCaptionsDataModule(coco).setup("predict")
    assert "captions_val2017.json" in str(raised.value)


def test_annotations_that_cannot_be_read_are_an_error(coco: Path) -> None:
    path = coco / "annotations/captions_val2017.json"
    path.write_text("{broken")
    with pytest.raises(InputError, match=r"data\.annotations: .*captions_val2017\.json is not JSON"):
        CocoCaptionsDataModule(coco).setup("predict")
    path.unlink()
    with pytest.raises(InputError, match=r"data\.annotations: .*captions_val2017\.json does not exist"):
        CocoCaptionsDataModule(coco).setup("predict")
    with pytest.raises(InputError, match="min_side must be 0 or more, got -1"):
        CocoCaptionsDataModule(coco, min_side=-1)


def test_a_run_uses_the_short_class_name(coco: Path, tmp_path: Path, predict: Callable[..., Any]) -> None:
    (coco / "annotations").rename(coco / "said")
    options = (f"--data.root={coco}", "--data.annotations=said/captions_val2017.json", "--data.resolution=32")
    run = predict(coco, tmp_path / "out", "--data=CocoCaptionsDataModule", *options)
    assert run.status == 0, run.err
    rows = {row["file_name"]: row for row in Manifest(tmp_path / "out").read()}
    assert {name: (row["status"], row["prompt"], row["image_id"]) for name, row in rows.items()} == {
        "0001.png": ("ok", "the first", 1),
        "0003.png": ("ok", "", 3),
    }
