"""Data sets of Hugging Face's `datasets`, from local files."""

from __future__ import annotations

import os
import re
import tempfile
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import error_text, walk
from renoise.data.formats import not_opened, picture_suffixes, suffixes
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.records import ImageRecord, row_record, warn_of_names
from renoise.data.referenced_files import inner_name
from renoise.data.tables import (
    TableCell,
    datasets_library,
    describe_columns,
    is_saved,
    json_value,
    open_splits,
    read_column,
)
from renoise.data.text_columns import TextColumns
from renoise.errors import InputError, InputWarning

CACHE = ".datasets"
"""Folder for Arrow files in the output folder. It may be deleted when a run has ended."""
SPLIT = re.compile(r"\w+(\.\w+)*")
"""Names of splits in `datasets`. Names of images begin with it."""
STRINGS = {"string", "large_string"}
NUMBERS = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
NUMBERS |= {"float16", "float32", "float64"}
FILES = {"binary", "large_binary"} | STRINGS
"""Types of columns that may contain image files, or paths to them, without being marked as images."""
OPTIONAL_COLUMNS = {"text", "edit_text"}
"""Columns of texts that may be missing."""


class HuggingFaceDataModule(ImagesDataModule):
    """Images in a column of a data set, one per row; needs the package `datasets` (pip install "renoise[datasets]").

    Images are named `<split>/<number of the row><suffix>`. Columns of numbers and strings pass through to the manifest.
    What `save_to_disk` wrote is read in place; `load_dataset` copies other files to `.datasets` in the output folder.

    Args:
        root: The folder of a data set that `save_to_disk` wrote or that `load_dataset` opens: Parquet, Arrow, ….
        split: Name of the split.
        image_column: The column of images; null takes the first one.
        text_column: The column of prompts; null for none.
        edit_text_column: The column of edit prompts; null for none.
        kwargs: The arguments of `ImagesDataModule`.

    Raises:
        InputError: An argument is wrong. The message begins with its name.

    Example:
        >>> from renoise.data import HuggingFaceDataModule
        >>> data = HuggingFaceDataModule("photographs", image_column="photo")
        >>> data.split
        'train'
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
            raise InputError(f"split must be the name of a split, such as train, got {split!r}")
        self.split, self.image_column = split, image_column
        self.text_column, self.edit_text_column = text_column, edit_text_column

    def find_records(self) -> list[ImageRecord]:
        """Returns the rows in their order. Of the images, only paths are read.

        Raises:
            InputError: `datasets` is not installed or cannot open the folder; there is no such split or column, or no
                row.
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
            if getattr(feature, "dtype", "") in NUMBERS | STRINGS and name not in {image, *texts.values(), *texts}
        ]
        try:
            # Only this column: `datasets` reads a row with all of its columns.
            images = table.select_columns(image).cast_column(image, datasets_library().Image(decode=False))
            paths = [path for chunk in read_column(images, image).chunks for path in chunk.field("path").to_pylist()]
            columns = {name: read_column(table, name).to_pylist() for name in others}
            columns |= {name: read_column(table, column).to_pylist() for name, column in texts.items() if column}
        except Exception as error:  # of many types: a column without images, text that is not UTF-8, damaged files
            raise InputError(f"data.root: {self.root} cannot be read by `datasets`: {error_text(error)}") from error
        if not paths:
            raise InputError(f"data.root: the split {self.split} of {self.root} has no rows")
        self._warn_of_losses(table, {image, *filter(None, texts.values())}, paths)
        root, names = self.root.absolute(), columns.get("file_name", paths)
        records = []
        for number, path in enumerate(paths):
            name = f"{self.split}/{number:08d}{_suffix(path, names[number])}"
            row = {column: json_value(values[number]) for column, values in columns.items()}
            cell = TableCell(images, number, image, root)
            records.append(row_record(name, cell, f"{self.root}, row {number}", row))
        return records

    def _warn_of_losses(self, table: Any, used: set[str], paths: list[str | None]) -> None:
        """Warns of texts in other columns, and of images that have no row because a metadata file does not list them.

        Args:
            table: The split.
            used: The columns of images and texts.
            paths: The paths in the column of images.
        """
        if self.text_column is not None:
            texts = TextColumns()
            strings = {name for name, feature in table.features.items() if getattr(feature, "dtype", "") in STRINGS}
            texts.add(dict.fromkeys([*sorted(strings - used), *(["text"] if used & strings else [])], ""))
            texts.warn_if_none(self.root, "name the columns by data.text_column and data.edit_text_column")
        listed = {os.path.normpath(path) for path in paths if path is not None}
        images = [path for path in self._files if Path(path).suffix.lower() in suffixes() and path not in listed]
        problem = "images are left out because the metadata do not list them; ImageFolderDataModule reads all"
        warn_of_names(self.root, problem, [inner_name(self.root, path) for path in images])
        names = {PurePosixPath(path).name for path in listed}
        files = (path for path in walk(self.root, self.output_folder) if path.name not in names)
        others = not_opened(path.suffix.lower() for path in files)
        if others:
            rank_zero_warn(f"data.root: pictures in {self.root} are left out: {others}", category=InputWarning)

    def _table(self) -> Any:
        """Returns the split. Its format, which may have been saved with it, is reset."""
        found, files = open_splits(self.root, self._cache())
        self._files = files.get(self.split, [])
        # A split that was saved alone may know its name.
        splits = found if isinstance(found, dict) else {str(found.split or self.split): found}
        if self.split not in splits:
            raise InputError(f"data.split: {self.root} has no split {self.split!r}; there are: {', '.join(splits)}")
        return splits[self.split].with_format(None)

    def _cache(self) -> Path:
        """Returns the folder for Arrow files, which all processes and later runs share.

        Raises:
            InputError: The output folder is inside the data set, all of whose files `load_dataset` reads.
        """
        output = self.output_folder
        if output is None:
            self._temporary = tempfile.TemporaryDirectory()
            return Path(self._temporary.name)
        if not is_saved(self.root) and Path(os.path.realpath(output)).is_relative_to(os.path.realpath(self.root)):
            raise InputError(
                f"trainer.default_root_dir: {output} is inside data.root, where `datasets` would read it as data; "
                "choose another folder"
            )
        return output / CACHE

    def _image_column(self, table: Any) -> str:
        image_type = datasets_library().Image
        images: list[str] = [name for name, feature in table.features.items() if isinstance(feature, image_type)]
        if self.image_column is None and images:
            return images[0]
        if self.image_column is not None and self.image_column in table.features:
            feature = table.features[self.image_column]
            if self.image_column in images or isinstance(feature, dict) or getattr(feature, "dtype", "") in FILES:
                return self.image_column
        missing = "column of images" if self.image_column is None else f"column of images {self.image_column!r}"
        raise InputError(f"data.image_column: {self.root} has no {missing}; its columns are: {describe_columns(table)}")

    def _text_column(self, table: Any, option: str, name: str | None) -> str | None:
        if name is None or (name in OPTIONAL_COLUMNS and name not in table.features):
            return None
        if getattr(table.features.get(name), "dtype", "") not in STRINGS:
            columns = describe_columns(table)
            raise InputError(f"data.{option}: {self.root} has no column of texts {name!r}; its columns are: {columns}")
        return name


def _suffix(*names: object) -> str:
    """Returns the first suffix of an image file among the names that a row has for its image."""
    endings = (PurePosixPath(str(name)).suffix.lower() for name in names)
    return next((ending for ending in endings if ending in picture_suffixes()), ".png")
