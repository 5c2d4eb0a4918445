"""A folder of images, with or without metadata files."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from renoise.data.files import check_folder, walk
from renoise.data.formats import not_opened, suffixes
from renoise.data.images import read_size
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.masks import fit_mask, read_mask
from renoise.data.metadata import MASK, is_metadata, read_metadata
from renoise.data.overlooked import warn_of_overlooked
from renoise.data.records import ImageRecord, first_of_each_name, path_error, printable
from renoise.errors import InputError, InputWarning, prefixed


class ImageFolderDataModule(ImagesDataModule):
    """All images in a folder and the folders inside it. Hidden files and the run's own output are left out.

    Rows of `metadata.jsonl` give images their prompts: {"file_name": "sub/cat.jpg", "text": "a cat on a sofa",
    "edit_text": "a dog on a sofa"}. Only "file_name" is required. `metadata.csv` and `metadata.parquet` have the same
    columns. Names are relative to the folder of the metadata file. "mask" may name a picture of the image's size, white
    where an edit should change the image. `root` may also be one picture; metadata files beside it give its texts.

    Example:
        >>> from renoise.data import ImageFolderDataModule
        >>> data = ImageFolderDataModule("data/images", resolution=64)
        >>> data.setup("predict")
        >>> [(record.file_name, record.prompt) for record in data.records if "cat" in record.file_name]
        [('scenes/00-cat.png', 'a cat on a checkered green background')]
    """

    @property
    def folder(self) -> Path:
        """The folder that names are relative to: `root`, or the one that contains the picture `root`."""
        return self.root.parent if self.root.is_file() else self.root

    def check_root(self) -> None:
        """Raises InputError where `root` is neither a folder nor a picture that can be read."""
        suffix = self.root.suffix.lower()
        if not self.root.is_file():
            check_folder(self.root, "data.root")
        elif suffix not in suffixes():
            found = not_opened([suffix]) or "files such as .jpg, .png or .webp"
            raise InputError(f"data.root: {self.root} is neither a folder nor a picture that can be read: {found}")

    def find_records(self) -> list[ImageRecord]:
        """Returns the images, sorted by name. No image is opened.

        Raises:
            InputError: There is no image, or a metadata file cannot be read.
        """
        folder, files = self.folder, self._files()
        metadata = [path for path in files if is_metadata(path)]
        rows = first_of_each_name(row for path in metadata for row in read_metadata(path, folder) if self._has(*row))
        records = {record.file_name: record for record in rows}
        masks = {record.extra.get(MASK) for record in rows if isinstance(record.extra.get(MASK), str)}
        files = [path for path in files if _name(path, folder) not in masks]
        for path in files:
            if path.suffix.lower() in suffixes():
                record = _image_record(path, folder)
                records.setdefault(record.file_name, record)
        others = not_opened(path.suffix.lower() for path in files if _name(path, folder) not in records)
        if not records:
            found = f"that can be read, only {others}" if others else "(files such as .jpg, .png or .webp)"
            raise InputError(f"data.root: {self.root} contains no images {found}")
        if others:
            rank_zero_warn(f"data.root: pictures in {self.root} are left out: {others}", category=InputWarning)
        warn_of_overlooked(files, records, folder)
        return [records[name] for name in sorted(records)]

    def mask(self, file_name: str) -> Tensor | None:
        """See `ImagesDataModule.mask`."""
        record = self._by_name[file_name]
        name = record.extra.get(MASK)
        if not isinstance(name, str) or record.error is not None:
            return None
        problem = path_error(self.folder, name)
        size = read_size(record.source)
        if problem is not None or size is None:
            raise InputError(f"{file_name}: mask: {problem or 'the image cannot be read'}")
        with prefixed(f"{file_name}: mask: "):
            return fit_mask(read_mask(self.folder / name, size), self._target_size(record), self._fit)

    def _files(self) -> list[Path]:
        """Returns all files of the folder, or the picture and the metadata files beside it."""
        if self.root.is_file():
            return [self.root, *(path for path in sorted(self.folder.iterdir()) if is_metadata(path))]
        return list(walk(self.root, self.output_folder))

    def _has(self, _place: str, record: ImageRecord) -> bool:
        """Whether a row of a metadata file is about an image of the data set."""
        return not self.root.is_file() or record.file_name == _name(self.root, self.folder)


def _image_record(path: Path, root: Path) -> ImageRecord:
    name = _name(path, root)
    error = None if name == path.relative_to(root).as_posix() else "its name is not valid UTF-8"
    return ImageRecord(name, path, error=error)


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())
