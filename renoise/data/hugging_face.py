"""Data sets of Hugging Face's `datasets`, from local files."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from renoise.data.batch import ImageRecord
from renoise.data.images import UnreadableImageError, read_bytes, suffixes
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.metadata import table_record
from renoise.errors import InputError

SAVED = ("state.json", "dataset_dict.json")
"""What `save_to_disk` leaves in a folder: one split's, or that of several."""
CACHE = ".datasets"
"""In the output folder; it may be deleted when a run has ended."""
SPLIT = re.compile(r"\w+(\.\w+)*")
"""How `datasets` names splits; images' names begin with it."""
TEXT = {"string", "large_string"}
SIMPLE = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
SIMPLE |= {"float16", "float32", "float64"} | TEXT
"""Types of columns that pass through to the manifest."""
FILES = {"binary", "large_binary"} | TEXT
"""Types of columns that may hold image files, or their paths, without saying so."""
NOT_ASKED_FOR = {"text", "edit_text"}
"""Columns of texts that need not be there."""


@dataclass(frozen=True)
class TableCell:
    """An image in a row of a table.

    Args:
        table: the data set, whose images are not decoded.
        row: its number.
        column: of the images.
        root: what paths in the table are relative to.
    """

    table: Any
    row: int
    column: str
    root: Path = Path()

    def read(self) -> bytes:
        """See `ImageSource.read`."""
        try:
            cell = self.table[self.row][self.column]
        except Exception as error:  # of many types, depending on what is damaged
            raise UnreadableImageError(f"its row cannot be read: {_one_line(error)}") from error
        content: bytes | None = None if cell is None else cell["bytes"]
        if content is None and (cell is None or cell["path"] is None):
            raise UnreadableImageError("the row holds no image")
        if content is None and "://" in cell["path"]:  # an address, or a member of a zip archive
            raise UnreadableImageError(f"is no file, but {cell['path']}")
        return read_bytes(self.root / cell["path"]) if content is None else content


class HuggingFaceDataModule(ImagesDataModule):
    """Images in a column of a data set, one per row; needs the package `datasets` (pip install "renoise[datasets]").

    Images are named `<split>/<number of the row>` and their suffix. Columns of numbers and strings pass through. What
    `save_to_disk` wrote is read where it lies; `load_dataset` copies other files to `.datasets` in the output folder.

    Args:
        root: the folder of a data set that `save_to_disk` wrote, or that `load_dataset` opens: Parquet, Arrow, ….
        split: which of its parts.
        image_column: the column of images; null takes the first that there is.
        text_column: the column of what images show; null for none.
        edit_text_column: the column of what edits shall show; null for none.
        kwargs: what all data sets take.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        split: str = "train",
        image_column: str | None = None,
        text_column: str | None = "text",
        edit_text_column: str | None = "edit_text",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        if not SPLIT.fullmatch(split):
            raise InputError(f"data.split must be the name of a split, such as train, but is {split!r}")
        self.split, self.image_column = split, image_column
        self.text_column, self.edit_text_column = text_column, edit_text_column

    def find_records(self) -> list[ImageRecord]:
        """The rows in their order; of images, nothing but their paths is read.

        Raises:
            InputError: `datasets` is not installed, or cannot open the folder; there is no such split, column or row.
        """
        table = self._table()
        image = self._image_column(table)
        texts = {
            "text": self._text_column(table, "text_column", self.text_column),
            "edit_text": self._text_column(table, "edit_text_column", self.edit_text_column),
        }
        others = [
            name
            for name, feature in table.features.items()
            if getattr(feature, "dtype", "") in SIMPLE and name not in {image, *texts.values(), *texts}
        ]
        try:
            # Of this column alone: a row that is read is read as a whole.
            images = table.select_columns(image).cast_column(image, _library().Image(decode=False))
            paths = [path for chunk in _column(images, image).chunks for path in chunk.field("path").to_pylist()]
            columns = {name: _column(table, name).to_pylist() for name in others}
            columns |= {name: _column(table, column).to_pylist() for name, column in texts.items() if column}
        except Exception as error:  # of many types: no images after all, text that is no UTF-8, damaged files
            raise InputError(f"data.root: {self.root} cannot be read by `datasets`: {_one_line(error)}") from error
        if not paths:
            raise InputError(f"data.root: the split {self.split} of {self.root} has no rows")
        root, named = self.root.absolute(), columns.get("file_name", paths)
        records = []
        for number, path in enumerate(paths):
            name = f"{self.split}/{number:08d}{_suffix(path, named[number])}"
            row = {column: _json_value(values[number]) for column, values in columns.items()}
            where = f"{self.root}, row {number}"
            records.append(table_record(name, TableCell(images, number, image, root), where, row, self.prompt))
        return records

    def _table(self) -> Any:
        library = _library()
        try:
            if any((self.root / name).exists() for name in SAVED):
                found = library.load_from_disk(str(self.root))
            else:
                cache = self._cache()
                download = library.DownloadConfig(cache_dir=str(cache / "downloads"), disable_tqdm=True)
                with _without_progress_bars(library):
                    # An absolute path is no name of a data set on a hub, nor of a format.
                    path = str(self.root.absolute())
                    found = library.load_dataset(path, cache_dir=str(cache), download_config=download)
        except InputError:
            raise
        except Exception as error:  # of many types, depending on the format
            raise InputError(f"data.root: {self.root} cannot be opened by `datasets`: {_one_line(error)}") from error
        # One that was saved alone may know what it was a split of.
        splits = found if isinstance(found, dict) else {str(found.split or self.split): found}
        if self.split not in splits:
            raise InputError(f"data.split: {self.root} has no split {self.split!r}; there are: {', '.join(splits)}")
        return splits[self.split].with_format(None)  # saved along with a data set

    def _cache(self) -> Path:
        """Where `load_dataset` keeps the Arrow files that it makes of others, once for all processes and restarts.

        Raises:
            InputError: the output folder lies in the data set, all of whose files `load_dataset` reads.
        """
        if self.trainer is None:
            self._temporary = tempfile.TemporaryDirectory()
            return Path(self._temporary.name)
        output = Path(self.trainer.default_root_dir)
        if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(self.root)):
            raise InputError(
                f"trainer.default_root_dir: {output} lies in data.root, where `datasets` would take it for data"
            )
        return output / CACHE

    def _image_column(self, table: Any) -> str:
        images: list[str] = [name for name, feature in table.features.items() if isinstance(feature, _library().Image)]
        if self.image_column is None and images:
            return images[0]
        if self.image_column is not None and self.image_column in table.features:
            feature = table.features[self.image_column]
            if self.image_column in images or isinstance(feature, dict) or getattr(feature, "dtype", "") in FILES:
                return self.image_column
        wanted = "column of images" if self.image_column is None else f"column of images {self.image_column!r}"
        raise InputError(f"data.image_column: {self.root} has no {wanted}; its columns are: {_columns(table)}")

    def _text_column(self, table: Any, option: str, name: str | None) -> str | None:
        if name is None or (name in NOT_ASKED_FOR and name not in table.features):
            return None
        if getattr(table.features.get(name), "dtype", "") not in TEXT:
            raise InputError(
                f"data.{option}: {self.root} has no column of texts {name!r}; its columns are: {_columns(table)}"
            )
        return name


def _column(table: Any, name: str) -> Any:
    """All of a column, as Arrow has it; row by row it would take minutes."""
    return table.select_columns(name).with_format("arrow")[:].column(name)


def _columns(table: Any) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in table.features.items())


def _suffix(*names: object) -> str:
    """The first that is an image's, of the names that a row has for its image."""
    endings = (PurePosixPath(str(name)).suffix.lower() for name in names)
    return next((ending for ending in endings if ending in suffixes()), ".png")


def _json_value(value: Any) -> Any:
    """The value, and null in the place of what JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _without_progress_bars(library: Any) -> Iterator[None]:
    shown = not library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bars()


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            'HuggingFaceDataModule needs the package `datasets`: pip install "renoise[datasets]"'
        ) from error
    return datasets
