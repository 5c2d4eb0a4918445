"""WebDataset shards: images and their texts in `.tar` archives."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import walk
from renoise.data.formats import suffixes
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.records import ImageRecord, first_of_each_name, printable, row_record
from renoise.data.tar_files import TarMember, is_compressed, read_members
from renoise.errors import InputError, InputWarning

MAX_TEXT = 2**20
"""Largest size of a text member in bytes; a prompt has a few hundred."""


class WebDatasetDataModule(ImagesDataModule):
    """Samples of WebDataset shards: an image (the first member that is one) and its texts.

    The members of a sample are neighbors in the archive, and their names are equal up to the first dot. The prompt is
    the `.txt` member, or the key `text` or `caption` of the `.json` member. Its key `edit_text` is the edit prompt, and
    its other keys pass through to the manifest. Images are named `<shard>/<key><suffix>`.

    Args:
        root: The folder of uncompressed `.tar` files, searched recursively.
        text_suffix: Suffix of text members: what follows the first dot of their names.
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
        """Returns the samples that have an image, in the order of the shards' names. Only texts are read.

        Raises:
            InputError: A shard is compressed, so its members cannot be read by their position; or there are no images.
        """
        paths = sorted(walk(self.root, self.output_folder))
        compressed = [path for path in paths if is_compressed(path)]
        if compressed:
            raise InputError(
                f"data.root: {printable(str(compressed[0]))} is compressed; images can be read from plain .tar files "
                "only, so decompress it"
            )
        shards = [path for path in paths if path.suffix.lower() == ".tar"]
        records = first_of_each_name(record for path in shards for record in self._records(path))
        if not records:
            raise InputError(f"data.root: {self.root} contains no images in .tar files")
        return records

    def _records(self, path: Path) -> Iterator[tuple[str, ImageRecord]]:
        """Yields the place, for messages, and the record of each sample of a shard."""
        shard = path.relative_to(self.root).with_suffix("").as_posix()
        text_suffix = f".{self.text_suffix.lower().lstrip('.')}"
        for key, members in _samples(path):
            image = next((name for name in members if posixpath.splitext(f"_{name}")[1] in suffixes()), None)
            if image is None:
                continue
            place = printable(f"{path}, {key}")
            if key.startswith(("/", "../")):
                name = printable(f"{shard}/{key.replace('../', '').lstrip('/')}{image}")
                yield place, ImageRecord(name, members[image], error="its name in the archive leads out of it")
            else:
                row = _texts(members, text_suffix, place)
                yield place, row_record(printable(f"{shard}/{key}{image}"), members[image], place, row)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """Yields the key of every sample of a shard, and its members by what follows the first dot of their names.

    Members of one key that are not neighbors, or a second one of the same name, begin another sample of that key.
    """
    key, members = "", dict[str, TarMember]()
    for name, member in read_members(path):
        folder, base = posixpath.split(posixpath.normpath(name))
        stem, dot, ending = base.partition(".")
        if not stem or not dot:  # such as `._cat.png`, which some systems write beside `cat.png`
            continue
        member_key, ending = posixpath.join(folder, stem), f"{dot}{ending}".lower()
        if member_key != key or ending in members:
            yield key, members
            key, members = member_key, {}
        members[ending] = member
    yield key, members


def _texts(members: dict[str, TarMember], text_suffix: str, place: str) -> dict[str, Any]:
    """Returns the columns of a sample's `.json` and text members. One that cannot be read is skipped with a warning."""
    row: dict[str, Any] = {}
    try:
        if ".json" in members:
            row |= _json_columns(members[".json"])
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


def _json_columns(member: TarMember) -> dict[str, Any]:
    # NaN marks missing values in many data sets. JSON, and so the manifest, cannot represent it.
    columns = json.loads(_text(member), parse_constant=lambda constant: None)
    if not isinstance(columns, dict):
        raise ValueError("its .json is not an object")
    text = columns.get("text")
    return columns | {"text": columns.get("caption") if text is None else text}


def _text(member: TarMember) -> str:
    if member.length > MAX_TEXT:
        raise ValueError(f"{member.length} bytes are too long for a text")
    return member.read().decode("utf-8-sig")
