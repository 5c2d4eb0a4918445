"""Notices files of a folder of images that are not read, although they may contain images or texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from posixpath import splitext

from renoise.data.files import walk
from renoise.data.formats import suffixes
from renoise.data.metadata import is_metadata
from renoise.data.records import ImageRecord, warn_of_names
from renoise.data.tar_files import COMPRESSED_SUFFIXES

ARCHIVE_SUFFIXES = (".tar", ".zip", ".rar", ".7z", *COMPRESSED_SUFFIXES)
TEXT_SUFFIXES = {".txt", ".caption"}
"""Suffixes of files that other programs read the text of an image from."""


def warn_of_overlooked(files: Iterable[Path], records: Mapping[str, ImageRecord], root: Path) -> None:
    """Warns of archives, of files like `metadata.json`, and of text files beside images without a text.

    Args:
        files: All files of the folder.
        records: The images, by name.
        root: The folder.
    """
    without_text = {splitext(name)[0] for name, record in records.items() if record.prompt is None}
    archives, tables, texts = list[str](), list[str](), list[str]()
    for path in files:
        name = path.relative_to(root)
        if name.as_posix() in records or is_metadata(path):
            continue
        if path.name.lower().endswith(ARCHIVE_SUFFIXES):
            archives.append(name.as_posix())
        elif path.stem.lower() == "metadata":
            tables.append(name.as_posix())
        elif path.suffix.lower() in TEXT_SUFFIXES and splitext(name.as_posix())[0] in without_text:
            texts.append(name.as_posix())
    warn_of_names(root, "archives are not opened; WebDatasetDataModule reads .tar files", archives)
    warn_of_names(root, "tables are not read; metadata.jsonl, metadata.csv and metadata.parquet are", tables)
    warn_of_names(root, "texts beside images are not read; list them in metadata.jsonl", texts)


def warn_of_unlisted(folder: Path, names: Iterable[str], place: Path) -> None:
    """Warns of images in a folder that the file which lists a data set's images does not name.

    Args:
        folder: The folder of images.
        names: The images that are listed, relative to `folder`.
        place: The file that lists them.
    """
    listed = set(names)
    found = [path for path in walk(folder, None) if path.suffix.lower() in suffixes()]
    unlisted = [name for name in (path.relative_to(folder).as_posix() for path in found) if name not in listed]
    warn_of_names(place, f"images in {folder} are left out because they are not listed", unlisted)
