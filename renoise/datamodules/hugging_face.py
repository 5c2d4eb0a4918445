"""Data sets of Hugging Face's `datasets`, from local files."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from renoise.datamodules.batch import ImageRecord
from renoise.datamodules.images import UnreadableImageError, read_bytes, suffixes
from renoise.datamodules.images_data_module import ImagesDataModule
from renoise.datamodules.metadata import table_record
from renoise.errors import InputError

SAVED = ("state.json", "dataset_dict.json")
"""What `save_to_disk` leaves in a folder: one split's, or that of several."""
CACHE = ".datasets"
"""In the output folder; it may be deleted when a run has ended."""
SIMPLE = {"string", "large_string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"}
SIMPLE |= {"uint64", "float16", "float32", "float64"}
"""Types of columns that pass through to the manifest."""


@dataclass(frozen=True)
class TableCell:
    """An image in a row of a table.

    Args:
        table: the data set, whose images are not decoded.
        row: its number.
        column: of the images.
    """

    table: Any
    row: int
    column: str

    def read(self) -> bytes:
        """See `ImageSource.read`."""
        cell = self.table[self.row][self.column]
        if cell is None:
            raise UnreadableImageError("the row holds no image")
        content: bytes | None = cell["bytes"]
        return content if content is not None else read_bytes(Path(cell["path"]))


class HuggingFaceDataModule(ImagesDataModule):
    """Images in a column of a data set, one per row; needs the package `datasets` (pip install "renoise[datasets]").

    Images are named `<split>/<number of the row>` and their suffix. Columns of numbers and strings pass through.

    Args:
        root: the folder of a data set that `save_to_disk` wrote, or that `load_dataset` opens: Parquet, Arrow, ….
        split: which of its parts.
        image_column: the column of images; null takes the first that there is.
        text_column: the column of what images show, where there is one.
        edit_text_column: the column of what edits shall show, where there is one.
        kwargs: what all data sets take.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        split: str = "train",
        image_column: str | None = None,
        text_column: str = "text",
        edit_text_column: str = "edit_text",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.split, self.image_column = split, image_column
        self.text_column, self.edit_text_column = text_column, edit_text_column

    def find_records(self) -> list[ImageRecord]:
        """The rows in their order; of images, nothing but their paths is read.

        Raises:
            InputError: `datasets` is not installed, or cannot open the folder; there is no column of images, no row.
        """
        table = self._table()
        column = self._image_column(table)
        table = table.cast_column(column, _library().Image(decode=False))
        names = self._names(table, column)
        features = table.features
        kept = {
            name: table.with_format(None)[name] for name in features if getattr(features[name], "dtype", "") in SIMPLE
        }
        renamed = {self.text_column: "text", self.edit_text_column: "edit_text"}
        records = []
        for number, name in enumerate(names):
            row = {renamed.get(key, key): _json_value(values[number]) for key, values in kept.items()}
            where = f"{self.root}, row {number}"
            records.append(table_record(name, TableCell(table, number, column), where, row, self.prompt))
        if not records:
            raise InputError(f"data.root: the split {self.split} of {self.root} has no rows")
        return records

    def _table(self) -> Any:
        library = _library()
        try:
            if any((self.root / name).exists() for name in SAVED):
                found = library.load_from_disk(str(self.root))
            else:
                found = library.load_dataset(str(self.root), cache_dir=str(self._cache()))
        except Exception as error:  # of many types, depending on the format
            reason = " ".join(str(error).split())
            raise InputError(f"data.root: {self.root} cannot be opened by `datasets`: {reason}") from error
        if not isinstance(found, dict):
            return found
        if self.split not in found:
            raise InputError(f"data.split: {self.root} has no split {self.split!r}; there are: {', '.join(found)}")
        return found[self.split]

    def _cache(self) -> Path:
        """Where `load_dataset` keeps the Arrow files that it makes of others, once for all processes and restarts."""
        if self.trainer is not None:
            return Path(self.trainer.default_root_dir) / CACHE
        self._temporary = tempfile.TemporaryDirectory()
        return Path(self._temporary.name)

    def _image_column(self, table: Any) -> str:
        images: list[str] = [name for name, feature in table.features.items() if isinstance(feature, _library().Image)]
        if self.image_column is None and images:
            return images[0]
        if self.image_column in images:
            assert self.image_column is not None
            return self.image_column
        wanted = "column of images" if self.image_column is None else f"column of images {self.image_column!r}"
        columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in table.features.items())
        raise InputError(f"data.image_column: {self.root} has no {wanted}; its columns are: {columns}")

    def _names(self, table: Any, column: str) -> list[str]:
        """A name for every row: the split's, the row's number, and the suffix of the stored path."""
        storage = table.with_format("arrow")[column]
        chunks: Sequence[Any] = getattr(storage, "chunks", [storage])
        paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
        endings = (PurePosixPath(path or "").suffix.lower() for path in paths)
        return [
            f"{self.split}/{number:08d}{ending if ending in suffixes() else '.png'}"
            for number, ending in enumerate(endings)
        ]


def _json_value(value: Any) -> Any:
    """The value, and null in the place of what JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            'HuggingFaceDataModule needs the package `datasets`: pip install "renoise[datasets]"'
        ) from error
    return datasets
