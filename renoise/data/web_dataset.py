"""WebDataset shards: images and their texts in `.tar` archives."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import parse_json, walk
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.records import ImageRecord, first_of_each_name, printable, row_record, warn_of_names
from renoise.data.tar_files import TarMember, is_compressed, read_members
from renoise.data.tar_samples import find_samples
from renoise.data.text_columns import TextColumns
from renoise.errors import InputError, InputWarning

MAX_TEXT = 2**20
"""Largest size of a text member in bytes; a prompt has a few hundred."""

OTHER_TEXTS = (".txt", ".text", ".caption", ".cap", ".prompt")
"""Suffixes of members that are likely to be texts, where they are not `data.text_suffix`."""


class WebDatasetDataModule(ImagesDataModule):
    """Images in WebDataset shards, with the texts of their samples.

    The prompt of an image is the `.txt` member of its sample, or the key `text` or `caption` of the `.json` member. Its
    key `edit_text` is the edit prompt, and its other keys pass through to the manifest. `renoise.data.tar_samples` says
    which members are a sample. Images are named `<shard>/<name in the shard>`.

    Args:
        root: The folder of uncompressed `.tar` files, searched recursively.
        text_suffix: Suffix of text members, such as `txt` or `caption`.
        kwargs: The arguments of `ImagesDataModule`.

    Raises:
        InputError: An argument is wrong. The message begins with its name.

    Example:
        >>> from renoise.data import WebDatasetDataModule
        >>> data = WebDatasetDataModule("shards", text_suffix="caption")
        >>> data.resolution
        512
    """

    def __init__(self, root: str | PathLike[str], text_suffix: str = "txt", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.text_suffix = text_suffix

    def find_records(self) -> list[ImageRecord]:
        """Returns the images in the order of the shards' names. Only texts are read.

        A shard that is compressed or damaged is left out, or read up to the damage, with a warning.

        Raises:
            InputError: There are no images.
        """
        paths = sorted(walk(self.root, self.output_folder))
        compressed = [path for path in paths if is_compressed(path)]
        problem = (
            "compressed shards are left out; decompress them, because images are read by their position in a shard"
        )
        warn_of_names(self.root, problem, [path.relative_to(self.root).as_posix() for path in compressed])
        left_out = set(compressed)
        shards = [path for path in paths if path.suffix.lower() == ".tar" and path not in left_out]
        self._texts = TextColumns()
        self._together: list[str] = []
        self._unused: list[str] = []
        records = first_of_each_name(record for path in shards for record in self._records(path))
        warn_of_names(self.root, "samples of several images, each of which gets a row", self._together)
        problem = "texts are left out that belong to no image or to one that has another text"
        warn_of_names(self.root, problem, self._unused)
        self._texts.warn_if_none(
            self.root, "data.text_suffix names another suffix; .json has the keys text and caption"
        )
        if not records:
            raise InputError(f"data.root: {self.root} contains no images in uncompressed .tar files")
        return records

    def _records(self, path: Path) -> Iterator[tuple[str, ImageRecord]]:
        """Yields the place, for messages, and the record of each image of a shard."""
        shard = path.relative_to(self.root).with_suffix("").as_posix()
        members = dict[str, TarMember]()
        repeated = []
        for raw_name, member in read_members(path):
            name = posixpath.normpath(raw_name)
            if members.setdefault(name, member) is not member:
                repeated.append(name)
        warn_of_names(path, "members are left out that have the name of one before them", repeated)
        text_suffix = f".{self.text_suffix.lower().lstrip('.')}"
        samples = find_samples(list(members), dict.fromkeys([".json", text_suffix]))
        self._together += [f"{shard}/{', '.join(images)}" for images in samples.together]
        self._unused += [f"{shard}/{name}" for name in samples.unused]
        self._texts.add({suffix: suffix for suffix in OTHER_TEXTS if any(name.endswith(suffix) for name in members)})
        for image, texts in samples.texts.items():
            place, name = printable(f"{path}, {image}"), printable(f"{shard}/{image}")
            if image.startswith(("/", "../")):
                # As it is in the archive, so that it is never the name of another member.
                yield place, ImageRecord(name, members[image], error="its name in the archive leads out of it")
            else:
                row = _texts({suffix: members[text] for suffix, text in texts.items()}, text_suffix, place)
                self._texts.add({column: value for column, value in row.items() if value is not None})
                yield place, row_record(name, members[image], place, row)


def _texts(members: dict[str, TarMember], text_suffix: str, place: str) -> dict[str, Any]:
    """Returns the columns of a sample's `.json` and text members. One that cannot be read is skipped with a warning."""
    row: dict[str, Any] = {}
    try:
        if ".json" in members:
            row |= _json_columns(members[".json"], place)
    except (ValueError, RecursionError, OSError) as error:
        _warn_of_text(place, error)
    try:
        if text_suffix in members:
            row["text"] = _text(members[text_suffix]).strip()
    except (ValueError, OSError) as error:
        _warn_of_text(place, error)
    return row


def _warn_of_text(place: str, error: Exception) -> None:
    rank_zero_warn(printable(f"{place}: its text is skipped: {error}"), category=InputWarning)


def _json_columns(member: TarMember, place: str) -> dict[str, Any]:
    # NaN marks missing values in many data sets. JSON, and so the manifest, cannot represent it.
    columns = parse_json(_text(member), place, parse_constant=lambda constant: None)
    if not isinstance(columns, dict):
        raise ValueError("its .json is not an object")
    text = columns.get("text")
    return columns | {"text": columns.get("caption") if text is None else text}


def _text(member: TarMember) -> str:
    if member.length > MAX_TEXT:
        raise ValueError(f"{member.length} bytes are too long for a text")
    return member.read().decode("utf-8-sig")
