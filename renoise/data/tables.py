"""Tables of Hugging Face's `datasets`: opening them, their columns, and the images in their rows."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from renoise.data.files import UnreadableImageError, error_text, read_bytes
from renoise.data.image_files import open_file
from renoise.data.records import path_error
from renoise.data.referenced_files import check_card, check_files, check_saved, inner_name
from renoise.errors import InputError

SAVED_FILES = ("state.json", "dataset_dict.json")
"""What `save_to_disk` writes to a folder: the first for one split, the second for several."""


@dataclass(frozen=True)
class TableCell:
    """An image in a row of a table.

    Args:
        table: The data set, whose images are not decoded.
        row: Number of the row, from 0 on.
        column: Name of the column of images.
        root: The data set's folder. Paths in the table are relative to it, and files outside of it are not opened.
    """

    table: Any
    row: int
    column: str
    root: Path = Path()

    def read(self) -> bytes:
        """Returns the bytes of the image file, see `ImageSource.read`."""
        found = self._content()
        return read_bytes(found) if isinstance(found, Path) else found

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Opens the image file. One that is not in the table is not read.

        Raises:
            UnreadableImageError: It cannot be read.
        """
        found = self._content()
        with open_file(found) if isinstance(found, Path) else io.BytesIO(found) as file:
            yield file

    def _content(self) -> bytes | Path:
        """Returns the image file, or its path."""
        try:
            cell = self.table[self.row][self.column]
        except Exception as error:  # of many types, depending on what is damaged
            raise UnreadableImageError(f"its row cannot be read: {error_text(error)}") from error
        content: bytes | None = None if cell is None else cell["bytes"]
        if content is None and (cell is None or cell["path"] is None):
            raise UnreadableImageError("the row contains no image")
        if content is None and "://" in cell["path"]:  # an address, or a member of a zip archive
            raise UnreadableImageError(f"is not a file: {cell['path']}")
        if content is not None:
            return content
        name = inner_name(self.root, cell["path"])
        problem = path_error(self.root, name)
        if problem is not None:
            raise UnreadableImageError(problem)
        return self.root / name


def open_splits(root: Path, cache: Path) -> tuple[dict[str, Any] | Any, dict[str, list[str]]]:
    """Returns the splits of a data set by name, or the data set where it was saved as one split; and their files.

    Args:
        root: The data set's folder.
        cache: Where `load_dataset` keeps Arrow files. What `save_to_disk` wrote needs none.

    Returns:
        The data set, and the paths of the files of each split; none for what `save_to_disk` wrote.

    Raises:
        InputError: `datasets` is not installed or cannot open the folder, or a file of the data set is outside of it.
    """
    library = datasets_library()
    try:
        if is_saved(root):
            check_saved(root)
            return library.load_from_disk(str(root)), {}
        check_card(root)
        download = library.DownloadConfig(cache_dir=str(cache / "downloads"), disable_tqdm=True)
        with _without_progress_bars(library):
            # An absolute path is neither the name of a data set on a hub nor that of a format.
            path = str(root.absolute())
            builder = library.load_dataset_builder(path, cache_dir=str(cache), download_config=download)
            files = {str(split): list(map(str, paths)) for split, paths in (builder.config.data_files or {}).items()}
            check_files(root, chain.from_iterable(files.values()))
            builder.download_and_prepare(download_config=download)
            return builder.as_dataset(), files
    except InputError:
        raise
    except Exception as error:  # of many types, depending on the format
        raise InputError(f"data.root: {root} cannot be opened by `datasets`: {error_text(error)}") from error


def is_saved(root: Path) -> bool:
    """Returns whether `save_to_disk` wrote the folder, so that it is read in place."""
    return any((root / name).exists() for name in SAVED_FILES)


def datasets_library() -> Any:
    """Returns the package `datasets`.

    Raises:
        InputError: It is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            'HuggingFaceDataModule needs the package `datasets`: pip install "renoise[datasets]"'
        ) from error
    return datasets


def read_column(table: Any, name: str) -> Any:
    """Returns a whole column as an Arrow array; row by row it would take minutes."""
    return table.select_columns(name).with_format("arrow")[:].column(name)


def describe_columns(table: Any) -> str:
    """Returns the names and types of a table's columns, for messages."""
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in table.features.items())


def json_value(value: Any) -> Any:
    """Returns a value, or None for NaN and infinity, which JSON cannot represent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _without_progress_bars(library: Any) -> Iterator[None]:
    were_enabled = not library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if were_enabled:
            library.enable_progress_bars()
