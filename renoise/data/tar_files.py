"""Members of uncompressed tar archives, read by their position."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import UnreadableImageError, check_regular, read_part
from renoise.data.records import printable
from renoise.errors import InputWarning

COMPRESSED_SUFFIXES = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    *(".tar.zst", ".tzst", ".tar.lz4", ".tar.z"),
)
MAGIC_BYTES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""First bytes of compressed files: gzip, bzip2, xz, zstd."""


@dataclass(frozen=True)
class TarMember:
    """A file in an archive.

    Args:
        archive: The archive.
        start: Where the file begins in the archive, in bytes.
        length: Length of the file, in bytes.
    """

    archive: Path
    start: int
    length: int

    def read(self) -> bytes:
        """Returns the bytes of the file, see `ImageSource.read`."""
        content = read_part(self.archive, self.start, self.length)
        if len(content) < self.length:
            raise UnreadableImageError(f"is cut off: {self.archive.name} ends in the middle of it")
        return content


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
    """Yields the name and position of every regular file of an archive. A damaged archive is read up to the damage.

    Args:
        path: The archive. A warning says where it is damaged.
    """
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
            # `tarfile` stops silently at a header that it cannot parse.
            if read_part(path, archive.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"neither a file nor the archive's end at byte {archive.offset}")
    # A damaged header may contain any number. An UnreadableImageError is a ValueError.
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        rank_zero_warn(printable(f"{path} cannot be read to its end: {error}"), category=InputWarning)
