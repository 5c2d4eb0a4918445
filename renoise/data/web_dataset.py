"""WebDataset shards: images and their texts in `.tar` archives."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.batch import ImageRecord
from renoise.data.image_folder import walk
from renoise.data.images import UnreadableImageError, check_regular, read_part, suffixes
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.metadata import printable, table_record
from renoise.errors import InputError, InputWarning

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.z")
STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""What compressed files begin with, whatever they are called: gzip, bzip2, xz, zstd."""
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

    A sample's members are neighbors and share their names up to the first dot. The text is the `.txt` member, or the
    key `text` or `caption` of the `.json` member, whose `edit_text` is the edit's; its other keys pass through. Images
    are named `<shard>/<key>` and their suffix.

    Args:
        root: the folder of uncompressed `.tar` files, searched recursively.
        text_suffix: what follows the first dot in the names of text members.
        kwargs: what all data sets take.
    """

    def __init__(self, root: str | PathLike[str], text_suffix: str = "txt", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.text_suffix = text_suffix

    def find_records(self) -> list[ImageRecord]:
        """The samples with an image, shard by shard in the order of their names; only texts are read.

        Raises:
            InputError: a shard is compressed, so that nothing in it can be found by its place; there are no images.
        """
        output = self.trainer.default_root_dir if self.trainer else None
        paths = [path for path in sorted(walk(self.root, output)) if path.suffix.lower() == ".tar" or _compressed(path)]
        for path in paths:
            if _compressed(path):
                raise InputError(
                    f"data.root: {printable(str(path))} is compressed; images can be read from plain .tar files only, "
                    "so decompress it"
                )
        records: dict[str, ImageRecord] = {}
        for path in paths:
            for record in self._records(path):
                if record.file_name in records:
                    again = f"{printable(str(path))}: a second {record.file_name} is left out"
                    rank_zero_warn(again, category=InputWarning)
                records.setdefault(record.file_name, record)
        if not records:
            raise InputError(f"data.root: {self.root} holds no images in .tar files")
        return list(records.values())

    def _records(self, path: Path) -> Iterator[ImageRecord]:
        shard = path.relative_to(self.root).with_suffix("").as_posix()
        text = f".{self.text_suffix.lower().lstrip('.')}"
        for key, members in _samples(path):
            ending = next((each for each in members if posixpath.splitext(f"_{each}")[1] in suffixes()), None)
            if ending is None:
                continue
            name, where = f"{shard}/{key}{ending}", f"{path}, {key}"
            if key.startswith(("/", "../")):
                name = f"{shard}/{key.replace('../', '').lstrip('/')}{ending}"
                error = "its name in the archive leads out of it"
                yield ImageRecord(printable(name), members[ending], self.prompt, None, {}, error)
                continue
            row = _texts(members, text, where)
            yield table_record(printable(name), members[ending], printable(where), row, self.prompt)


def _compressed(path: Path) -> bool:
    """Whether an archive is compressed, by its name or, where it says `.tar`, by its first bytes."""
    name = path.name.lower()
    if name.endswith(COMPRESSED) or not name.endswith(".tar"):
        return name.endswith(COMPRESSED)
    with suppress(OSError, UnreadableImageError):  # which is told where its members are looked for
        check_regular(path)
        return read_part(path, 0, 8).startswith(STARTS)
    return False


def _samples(path: Path) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """Key and members, by what follows the first dot of their names, of every sample of an archive.

    Members of one key that are no neighbors, or the second of one name, belong to another sample of that key.
    """
    key, members = "", dict[str, TarMember]()
    for name, member in _members(path):
        folder, base = posixpath.split(posixpath.normpath(name))
        stem, dot, ending = base.partition(".")
        if not stem or not dot:  # such as `._cat.png`, which some systems leave beside `cat.png`
            continue
        its_key, ending = posixpath.join(folder, stem), f"{dot}{ending}".lower()
        if its_key != key or ending in members:
            yield key, members
            key, members = its_key, {}
        members[ending] = member
    yield key, members


def _members(path: Path) -> Iterator[tuple[str, TarMember]]:
    """Name and place of every ordinary file of an archive, up to where it is damaged, which is warned of."""
    try:
        check_regular(path)
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                # Links may lead anywhere, and holes of sparse files are not in the archive.
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"it ends in the middle of {member.name}")
                yield member.name, TarMember(path, member.offset_data, member.size)
            # `tarfile` stops without a word at a header that it cannot make sense of.
            if read_part(path, archive.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"neither a file nor the archive's end at byte {archive.offset}")
    # A damaged header may say any number; an UnreadableImageError is a ValueError.
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        rank_zero_warn(printable(f"{path} cannot be read to its end: {error}"), category=InputWarning)


def _texts(members: dict[str, TarMember], text: str, where: str) -> dict[str, Any]:
    """What a sample's `.json` and text members say, as columns of a row; what cannot be read is warned of."""
    row: dict[str, Any] = {}
    try:
        if ".json" in members:
            # NaN stands for what is not known in many data sets; JSON, and so the manifest, has it not.
            found = json.loads(_text(members[".json"]), parse_constant=lambda constant: None)
            if not isinstance(found, dict):
                raise ValueError("its .json is not an object")
            said = found.get("text")
            row = found | {"text": found.get("caption") if said is None else said}
    except (ValueError, RecursionError, OSError, UnreadableImageError) as error:
        rank_zero_warn(printable(f"{where}: its text is left out: {error}"), category=InputWarning)
    try:
        if text in members:
            row["text"] = _text(members[text]).strip()
    except (ValueError, OSError, UnreadableImageError) as error:
        rank_zero_warn(printable(f"{where}: its text is left out: {error}"), category=InputWarning)
    return row


def _text(member: TarMember) -> str:
    if member.length > LONGEST_TEXT:
        raise ValueError(f"a text of {member.length} bytes")
    return member.read().decode("utf-8-sig")
