"""A folder of images, with or without `metadata.jsonl`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.batch import ImageRecord
from renoise.data.images import suffixes
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.metadata import METADATA_NAME, printable, read_metadata
from renoise.errors import InputError, InputWarning


class ImageFolderDataModule(ImagesDataModule):
    """All images in a folder and the folders inside it.

    Rows of `metadata.jsonl` give images their prompts: {"file_name": "sub/cat.jpg", "text": "a cat on a sofa",
    "edit_text": "a dog on a sofa"}. Only "file_name" is required. Hidden files and the run's own output are left out.
    """

    def find_records(self) -> list[ImageRecord]:
        """Lists the images without opening any; see `find_records`."""
        output = self.trainer.default_root_dir if self.trainer else None
        records = find_records(self.root, self.prompt, skip=output)
        if not records:
            endings = ", ".join(sorted(suffixes()))
            raise InputError(f"data.root: {self.root} holds no images (files ending in {endings})")
        return records


def find_records(root: Path, prompt: str | None = "", skip: str | PathLike[str] | None = None) -> list[ImageRecord]:
    """Every image below `root` and every row of its `metadata.jsonl` files, sorted by name.

    Args:
        root: the folder; links to other folders are not followed.
        prompt: for images without text; None leaves them to a captioner.
        skip: a folder inside `root` to leave out.

    Raises:
        InputError: a metadata file cannot be read.
    """
    records: dict[str, ImageRecord] = {}
    places: dict[str, str] = {}
    for path in walk(root, skip):
        if path.name == METADATA_NAME:
            for name, where, record in read_metadata(path, root, prompt):
                if name in places:
                    first = f"{printable(name)} is already in {places[name]}"
                    rank_zero_warn(f"{where} is skipped: {first}", category=InputWarning)
                else:
                    places[name], records[name] = where, record
        elif path.suffix.lower() in suffixes():
            name = path.relative_to(root).as_posix()
            error = None if printable(name) == name else "its name is not valid UTF-8"
            records.setdefault(name, ImageRecord(printable(name), path, prompt, None, {}, error))
    return sorted(records.values(), key=lambda record: record.file_name)


def walk(root: Path, skip: str | PathLike[str] | None) -> Iterator[Path]:
    """The files below `root` that are not hidden, folders before the folders inside them."""
    skipped = None if skip is None else os.path.realpath(skip)

    def warn(error: OSError) -> None:
        rank_zero_warn(f"{error.filename} is left out: {error.strerror}", category=InputWarning)

    for folder, subfolders, files in os.walk(root, onerror=warn):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) != skipped
        )
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
