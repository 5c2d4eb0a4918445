"""Where the files of an image are stored: each on its own, or many images together in a shard."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from renoise.data.files import read_part
from renoise.errors import InputError
from renoise.utils.files import sync_folder, write_atomically

SHARDS = "shards"
SHARD = re.compile(r"([0-9]{5,})-([0-9]{6,})\.tar")
"""Rank and number in the name of an archive."""
INVERSION, RECONSTRUCTION = "inversion", "reconstruction"
"""The kinds of files of an image. Further kinds are edits; their kind is the name of the editor's folder."""
INVALID_NAME_ERRORS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
"""For a name that is too long, or that is both an image and a folder of images."""
BLOCK = tarfile.BLOCKSIZE
ARCHIVE_END = bytes(2 * BLOCK)


class OutputFiles(Protocol):
    """Stores the files of images."""

    def add(self, row: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
        """Writes the files of one image.

        Args:
            row: The image's row of the manifest.
            files: Content by kind.

        Returns:
            The columns of the manifest that say where the inversion is.

        Raises:
            InputError: No file can have the image's name.
            OSError: The file system refuses.
        """

    def close(self) -> None:
        """Closes what is open."""


class SeparateFiles:
    """`inversions/<file_name>.safetensors`, `reconstructions/<file_name>.png`, `edits/<editor>/<file_name>.png`.

    Args:
        folder: The output folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from renoise.outputs.files import INVERSION, SeparateFiles
        >>> SeparateFiles(Path(tempfile.mkdtemp())).add({"file_name": "sub/a.jpg"}, {INVERSION: b"content"})
        {'inversion': 'inversions/sub/a.jpg.safetensors'}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, row: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
        """See `OutputFiles.add`."""
        try:
            for kind, content in files.items():
                write_atomically(self.folder / _path(row["file_name"], kind), content)
        except OSError as error:
            if error.errno not in INVALID_NAME_ERRORS:
                raise
            raise InputError(f"no file can be written under this name: {error.strerror}") from error
        return {"inversion": _path(row["file_name"], INVERSION)}

    def close(self) -> None:
        """Does nothing: no file stays open."""


class Shards:
    """`shards/<rank>-<number>.tar`: WebDataset archives of many images each.

    The files of an image have one key and follow each other: `.json` (its row of the manifest),
    `.inversion.safetensors`, `.reconstruction.png` and `.<editor>.png`. The manifest's column `members` has the start
    and the length of each file in the archive, in bytes, so that reading one needs no search.

    Args:
        folder: The output folder.
        rank: Rank of this process. Every process writes its own archives.
        images_per_shard: Images per archive.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from renoise.outputs.files import INVERSION, Shards
        >>> shards = Shards(Path(tempfile.mkdtemp()), rank=0, images_per_shard=1000)
        >>> shards.add({"file_name": "a.jpg"}, {INVERSION: b"content"})
        {'inversion': 'shards/00000-000000.tar', 'members': {'inversion': [1536, 7]}}
        >>> shards.close()
    """

    def __init__(self, folder: Path, rank: int, images_per_shard: int) -> None:
        self.folder, self.rank, self.images_per_shard = folder, rank, images_per_shard
        self._file: io.BufferedWriter | None = None
        self._archive: tarfile.TarFile | None = None
        self._images = 0

    def add(self, row: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
        """See `OutputFiles.add`."""
        was_removed = self._file is not None and not os.path.exists(self._file.name)
        if self._file is None or self._images == self.images_per_shard or was_removed:
            self._begin()
        assert self._file is not None
        name = Path(self._file.name).name
        key = f"{Path(name).stem}-{self._images:06d}"
        self._put(f"{key}.json", json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        members = {kind: self._put(f"{key}.{kind}{_suffix(kind)}", content) for kind, content in files.items()}
        self._file.flush()
        os.fsync(self._file.fileno())
        self._images += 1
        return {"inversion": f"{SHARDS}/{name}", "members": members}

    def close(self) -> None:
        """Ends the open archive."""
        if self._file is not None and self._archive is not None:
            self._archive.close()
            self._file.close()
            self._archive = self._file = None

    def _begin(self) -> None:
        self.close()
        (self.folder / SHARDS).mkdir(parents=True, exist_ok=True)
        numbers = [number for rank, number, _ in _shards(self.folder) if rank == self.rank]
        path = self.folder / SHARDS / f"{self.rank:05d}-{max(numbers, default=-1) + 1:06d}.tar"
        self._file, self._images = path.open("xb"), 0
        sync_folder(path.parent)
        self._archive = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115 (it stays open for many images)

    def _put(self, name: str, content: bytes) -> list[int]:
        """Adds a file to the archive and returns its start and its length in bytes."""
        assert self._archive is not None
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._archive.addfile(member, io.BytesIO(content))
        return [self._archive.offset - _whole_blocks(len(content)), len(content)]


def repair_shards(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Ends every archive after the last image of the manifest. A killed run leaves archives without their end.

    Args:
        folder: The output folder.
        rows: Rows of the manifest.

    Raises:
        OSError: The file system refuses.
    """
    ends: dict[str, int] = {}
    for row in rows:
        for start, length in (row.get("members") or {}).values():
            ends[row["inversion"]] = max(ends.get(row["inversion"], 0), start + _whole_blocks(length))
    for _, _, path in _shards(folder):
        end = ends.get(f"{SHARDS}/{path.name}")
        if end is None:
            path.unlink()
            continue
        with path.open("r+b") as file:
            file.seek(end)
            if file.read(len(ARCHIVE_END)) != ARCHIVE_END:
                file.truncate(end)
                file.seek(end)
                file.write(ARCHIVE_END)


def is_shard(name: str) -> bool:
    """Returns whether a file name is that of a run's archive. Other archives are a person's own."""
    return SHARD.fullmatch(name) is not None


def _shards(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Yields the rank, the number and the path of each archive of a run."""
    for path in sorted((folder / SHARDS).glob("*.tar")):
        match = SHARD.fullmatch(path.name)
        if match and path.is_file():
            yield int(match[1]), int(match[2]), path


class Place(NamedTuple):
    """Where one file of an image is.

    Args:
        path: The file, or the archive that contains it.
        start: Where it begins in `path`, in bytes.
        length: Length in bytes; None is up to the end of `path`.
    """

    path: Path
    start: int = 0
    length: int | None = None


def place_of(folder: Path, row: Mapping[str, Any], kind: str) -> Place | None:
    """Returns where one file of an image is, in its own file or in a shard. None where the image has none.

    Args:
        folder: The output folder.
        row: The image's row of the manifest.
        kind: `INVERSION`, `RECONSTRUCTION` or the name of an editor's folder.
    """
    if not row.get("members"):
        return Place(folder / (row["inversion"] if kind == INVERSION else _path(row["file_name"], kind)))
    if kind not in row["members"]:
        return None
    return Place(folder / row["inversion"], *row["members"][kind])


def read_output(folder: Path, row: Mapping[str, Any], kind: str) -> bytes | None:
    """Returns the content of one file of an image. None where there is none.

    Args:
        folder: The output folder.
        row: The image's row of the manifest.
        kind: `INVERSION`, `RECONSTRUCTION` or the name of an editor's folder.

    Raises:
        OSError: The file exists, and cannot be read.
    """
    place = place_of(folder, row, kind)
    if place is None or not place.path.exists():
        return None
    return place.path.read_bytes() if place.length is None else read_part(place.path, place.start, place.length)


def _path(file_name: str, kind: str) -> str:
    folder = {INVERSION: "inversions", RECONSTRUCTION: "reconstructions"}.get(kind, f"edits/{kind}")
    return f"{folder}/{file_name}{_suffix(kind)}"


def _suffix(kind: str) -> str:
    return ".safetensors" if kind == INVERSION else ".png"


def _whole_blocks(length: int) -> int:
    return -(-length // BLOCK) * BLOCK
