"""WebDataset shards: images and their texts in `.tar` archives."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.datamodules.batch import ImageRecord
from renoise.datamodules.image_folder import walk
from renoise.datamodules.images import UnreadableImageError, check_regular, read_part, suffixes
from renoise.datamodules.images_data_module import ImagesDataModule
from renoise.datamodules.metadata import printable, table_record
from renoise.errors import InputError, InputWarning

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
LONGEST_TEXT = 2**20
"""Bytes of a text that is read; a prompt has some hundred."""


@dataclass(frozen=True)
class TarMember:
    """A file in an archive.

    Args:
        archive: the archive.
        start: where the file begins in it, in bytes.
        length: of the file, in bytes.
    """

    archive: Path
    start: int
    length: int

    def read(self) -> bytes:
        """See `ImageSource.read`."""
        content = read_part(self.archive, self.start, self.length)
        if len(content) < self.length:
            raise UnreadableImageError(f"{self.archive.name} ends in the middle of it")
        return content


class WebDatasetDataModule(ImagesDataModule):
    """Samples of WebDataset shards, each an image (the first member that is one) and its texts.

    A sample's members share their names up to the first dot. The text is the `.txt` member, or the key `text` or
    `caption` of the `.json` member, whose `edit_text` is the edit's; its other keys pass through. Images are named
    `<shard>/<key>` and their suffix.

    Args:
        root: the folder of uncompressed `.tar` files, searched recursively.
        kwargs: what all data sets take.
    """

    def __init__(self, root: str | PathLike[str], **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    def find_records(self) -> list[ImageRecord]:
        """The samples with an image, shard by shard in the order of their names; only texts are read.

        Raises:
            InputError: a shard is compressed, so that nothing in it can be found by its place; there are no images.
        """
        output = self.trainer.default_root_dir if self.trainer else None
        records: dict[str, ImageRecord] = {}
        for path in sorted(walk(self.root, output)):
            if path.name.lower().endswith(COMPRESSED):
                raise InputError(f"data.root: {path} is compressed; images can be read from plain .tar files only")
            if path.suffix.lower() == ".tar":
                for record in self._samples(path):
                    if record.file_name in records:
                        again = f"{path}: a second {record.file_name} is left out"
                        rank_zero_warn(again, category=InputWarning)
                    records.setdefault(record.file_name, record)
        if not records:
            raise InputError(f"data.root: {self.root} holds no images in .tar files")
        return list(records.values())

    def _samples(self, path: Path) -> Iterator[ImageRecord]:
        samples: dict[str, dict[str, TarMember]] = {}
        for name, member in _members(path):
            folder, base = posixpath.split(posixpath.normpath(name))
            key, dot, ending = base.partition(".")
            samples.setdefault(posixpath.join(folder, key), {}).setdefault(f"{dot}{ending}".lower(), member)
        shard = path.relative_to(self.root).with_suffix("").as_posix()
        for key, members in samples.items():
            images = [each for each in members if posixpath.splitext(f"_{each}")[1] in suffixes()]
            if not images:
                continue
            ending = images[0]
            name, where = f"{shard}/{key}{ending}", f"{path}, {key}"
            if key.startswith(("/", "../")):
                name = f"{shard}/{key.replace('../', '').lstrip('/')}{ending}"
                error = "its name in the archive leads out of it"
                yield ImageRecord(printable(name), members[ending], self.prompt, None, {}, error)
                continue
            yield table_record(name, members[ending], where, _texts(members, where), self.prompt)


def _members(path: Path) -> Iterator[tuple[str, TarMember]]:
    """Name and place of every ordinary file of an archive, up to where it is damaged, which is warned of."""
    try:
        check_regular(path)
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg():
                    yield member.name, TarMember(path, member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:  # an UnreadableImageError is a ValueError
        rank_zero_warn(f"{printable(str(path))} cannot be read to its end: {error}", category=InputWarning)


def _texts(members: dict[str, TarMember], where: str) -> dict[str, Any]:
    """What a sample's `.json` and `.txt` members say, as columns of a row; what cannot be read is warned of."""
    row: dict[str, Any] = {}
    try:
        if ".json" in members:
            found = json.loads(_text(members[".json"]))
            if not isinstance(found, dict):
                raise ValueError("its .json is not an object")
            row = found | {"text": found.get("text", found.get("caption"))}
        if ".txt" in members:
            row["text"] = _text(members[".txt"]).strip()
    except (ValueError, RecursionError, OSError, UnreadableImageError) as error:
        rank_zero_warn(f"{printable(where)}: its text is left out: {error}", category=InputWarning)
    return row


def _text(member: TarMember) -> str:
    if member.length > LONGEST_TEXT:
        raise ValueError(f"a text of {member.length} bytes")
    return member.read().decode("utf-8-sig")
