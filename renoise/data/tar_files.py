"""Members of uncompressed tar archives, read by their position."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.file_parts import FileParts
from renoise.data.files import UnreadableImageError, check_regular, error_text, read_part
from renoise.data.records import printable
from renoise.errors import InputWarning

COMPRESSED_SUFFIXES = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    *(".tar.zst", ".tzst", ".tar.lz4", ".tar.z"),
)
MAGIC_BYTES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""First bytes of compressed files: gzip, bzip2, xz, zstd."""


MAX_HEADER = 2**16
"""Largest number of bytes that are read for the header of a member. A damaged header may claim any length."""


@dataclass(frozen=True)
class TarMember:
    """A file in an archive.

    Args:
        archive: The archive.
        start: Where the file begins in the archive, in bytes.
        length: Length of the file, in bytes.
        problem: Why it cannot be read; None where it can.
    """

    archive: Path
    start: int
    length: int
    problem: str | None = None

    @property
    def file(self) -> Path:
        """The archive. Where it has not changed, its members have not either."""
        return self.archive

    def read(self) -> bytes:
        """Returns the bytes of the file, see `ImageSource.read`."""
        if self.problem is not None:
            raise UnreadableImageError(self.problem)
        content = read_part(self.archive, self.start, self.length)
        if len(content) < self.length:
            raise UnreadableImageError(f"is cut off: {self.archive.name} ends in the middle of it")
        return content

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Opens the file, without reading it.

        Raises:
            UnreadableImageError: It cannot be read.
            OSError: The archive cannot be opened.
        """
        if self.problem is not None:
            raise UnreadableImageError(self.problem)
        with self.archive.open("rb") as file:
            if file.seek(0, io.SEEK_END) < self.start + self.length:
                raise UnreadableImageError(f"is cut off: {self.archive.name} ends in the middle of it")
            yield cast(BinaryIO, FileParts(file, [(self.start, self.length)], limit=sys.maxsize))


class _HeaderFile(io.FileIO):
    """An archive whose headers are read. `tarfile` would read as much as a damaged header claims."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"the header at byte {self.tell() - tarfile.BLOCKSIZE} is damaged")
        return super().read(size)


def is_compressed(path: Path) -> bool:
    """Returns whether an archive is compressed, by its name or, where the name ends in .tar, by its first bytes."""
    name = path.name.lower()
    if name.endswith(COMPRESSED_SUFFIXES) or not name.endswith(".tar"):
        return name.endswith(COMPRESSED_SUFFIXES)
    with suppress(OSError, UnreadableImageError):  # `read_members` warns of it
        check_regular(path)
        return read_part(path, 0, 8).startswith(MAGIC_BYTES)
    return False


def read_members(path: Path) -> Iterator[tuple[str, TarMember]]:
    """Yields the name and position of every member of an archive that is not a folder.

    A hard link has the position of the file that it names. Other members that are not plain files have a `problem`. A
    damaged archive is read up to the damage.

    Args:
        path: The archive. A warning says where it is damaged.
    """
    try:
        check_regular(path)
        size, files = path.stat().st_size, dict[str, TarMember]()
        with _HeaderFile(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            end = 0
            for member in archive:
                if not member.isdir():
                    found = _position(path, member, files)
                    files[member.name] = found
                    yield member.name, found
                is_plain = member.isreg() and not member.issparse()
                if is_plain and not 0 <= member.size <= size - member.offset_data:
                    raise tarfile.ReadError(f"it ends in the middle of {member.name}")
                if archive.offset <= end:  # `tarfile` would read the same headers again and again
                    raise tarfile.ReadError(f"the header before byte {file.tell()} is damaged")
                end = archive.offset
            # `tarfile` stops silently at a header that it cannot parse.
            if read_part(path, archive.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"neither a file nor the archive's end at byte {archive.offset}")
    except Exception as error:  # on damaged headers `tarfile` raises almost any type: RecursionError, IndexError, …
        rank_zero_warn(printable(f"{path} cannot be read to its end: {error_text(error)}"), category=InputWarning)


def _position(path: Path, member: tarfile.TarInfo, files: dict[str, TarMember]) -> TarMember:
    """Returns where the content of a member is.

    Args:
        path: The archive.
        member: The member.
        files: The members before it, by name.
    """
    if member.islnk() and member.linkname in files:
        return files[member.linkname]
    problem = None
    if member.islnk() or member.issym():
        problem = f"is a link to {member.linkname}, which is not followed"
    elif member.issparse():
        problem = "is a sparse file, whose holes are not in the archive"
    elif not member.isreg():
        problem = "is not a file in its archive, but a device, a named pipe or something else"
    elif member.size < 0:
        problem = f"has a size of {member.size} bytes in {path.name}, which is damaged"
    return TarMember(path, member.offset_data, member.size, problem and printable(problem))
