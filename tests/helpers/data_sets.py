"""Tiny data sets in the formats of the large ones."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
from PIL import Image

PICTURE = Image.new("RGB", (90, 70), "teal")


def write_data_set(kind: str, root: Path) -> None:
    """One picture in the format of a data module, given by its class name."""
    root.mkdir(parents=True)
    if kind == "CocoCaptionsDataModule":
        image = {"id": 1, "file_name": "1.png", "width": 900, "height": 700}
        caption = {"id": 1, "image_id": 1, "caption": "a cat"}
        (root / "val2017").mkdir()
        PICTURE.save(root / "val2017/1.png")
        (root / "annotations").mkdir()
        content = {"images": [image], "annotations": [caption]}
        (root / "annotations/captions_val2017.json").write_text(json.dumps(content))
    elif kind == "PIEBenchDataModule":
        (root / "annotation_images").mkdir()
        PICTURE.save(root / "annotation_images/1.png")
        entry = {"image_path": "1.png", "original_prompt": "a [cat]", "editing_prompt": "a [dog]", "mask": [0, 9]}
        (root / "mapping_file.json").write_text(json.dumps({"1": entry}))
    elif kind == "HuggingFaceDataModule":
        datasets.Dataset.from_dict({"image": [PICTURE], "text": ["a cat"]}).save_to_disk(str(root))
    elif kind == "WebDatasetDataModule":
        content = io.BytesIO()
        PICTURE.save(content, "PNG")
        with tarfile.open(root / "0.tar", "w") as archive:
            for name, data in (("1.png", content.getvalue()), ("1.txt", b"a cat")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        PICTURE.save(root / "a holiday.jpg")
