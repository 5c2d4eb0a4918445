"""Small data sets, in the formats of the data modules."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from renoise.data import ImageFolderDataModule, ImagesDataModule

PICTURE = Image.new("RGB", (90, 70), "teal")


def write_data_set(kind: str, root: Path) -> None:
    """Writes one picture in the format of a data module.

    Args:
        kind: The class name of the data module. Any other name is a folder of images.
        root: The folder of the data set, which is created.
    """
    root.mkdir(parents=True)
    WRITERS.get(kind, _write_image_folder)(root)


def _write_image_folder(root: Path) -> None:
    PICTURE.save(root / "a holiday.jpg")


def _write_coco(root: Path) -> None:
    image = {"id": 1, "file_name": "1.png", "width": 900, "height": 700}
    caption = {"id": 1, "image_id": 1, "caption": "a cat"}
    (root / "val2017").mkdir()
    PICTURE.save(root / "val2017/1.png")
    (root / "annotations").mkdir()
    content = {"images": [image], "annotations": [caption]}
    (root / "annotations/captions_val2017.json").write_text(json.dumps(content))


def _write_pie_bench(root: Path) -> None:
    (root / "annotation_images").mkdir()
    PICTURE.save(root / "annotation_images/1.png")
    entry = {"image_path": "1.png", "original_prompt": "a [cat]", "editing_prompt": "a [dog]", "mask": [0, 9]}
    (root / "mapping_file.json").write_text(json.dumps({"1": entry}))


def _write_hugging_face(root: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"image": [PICTURE], "text": ["a cat"]}).save_to_disk(str(root))


def _write_web_dataset(root: Path) -> None:
    content = io.BytesIO()
    PICTURE.save(content, "PNG")
    write_tar(root / "0.tar", {"1.png": content.getvalue(), "1.txt": b"a cat"})


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """Writes an archive of these files, by their names."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


WRITERS: dict[str, Callable[[Path], None]] = {
    "CocoCaptionsDataModule": _write_coco,
    "PIEBenchDataModule": _write_pie_bench,
    "HuggingFaceDataModule": _write_hugging_face,
    "WebDatasetDataModule": _write_web_dataset,
}


def write_gray_images(root: Path, *names: str) -> Path:
    """Writes images of 8 × 8 pixels whose gray levels are 10, 20, …, and returns their folder."""
    for number, name in enumerate(names, start=1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(path, "PNG")
    return root


def write_metadata(folder: Path, *rows: dict[str, object]) -> None:
    """Writes a `metadata.jsonl` file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def attach_trainer(data: ImagesDataModule, output: Path, rank: int = 0, world_size: int = 1) -> None:
    """Gives a data module a stand-in for the Trainer."""
    trainer: Any = SimpleNamespace(default_root_dir=str(output), global_rank=rank, world_size=world_size)
    data.trainer = trainer


def image_folder(
    root: Path, output: Path | None = None, rank: int = 0, world_size: int = 1, **options: Any
) -> ImageFolderDataModule:
    """Returns a data module after `setup`, at a resolution of 8 pixels unless another is given.

    Args:
        root: The folder of images.
        output: The Trainer's output folder; None is no Trainer, unless there are several processes.
        rank: Rank of this process.
        world_size: Number of processes.
        options: Further arguments of the data module.
    """
    data = ImageFolderDataModule(root, **{"resolution": 8} | options)
    if output is not None or world_size > 1:
        attach_trainer(data, output or root.parent, rank, world_size)
    data.setup("predict")
    return data


def gray_levels(data: ImagesDataModule) -> dict[str, int]:
    """Returns the mean gray level of each image that the data module loads, by file name."""
    return {
        record.file_name: round(image.mean().item() * 255)
        for batch in data.predict_dataloader()
        for record, image in zip(batch.records, batch.images, strict=True)
    }
