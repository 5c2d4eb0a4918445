"""Reads chosen parts of a file as if they were a file of their own, and no more bytes than a limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

from renoise.data.files import UnreadableImageError

Part = tuple[int, int]
"""Start and length in bytes."""


class FileParts(io.RawIOBase):
    """Parts of a file, one after the other. Pillow reads images from it.

    A damaged or hostile header can ask for gigabytes, so what is read in total is limited.

    Args:
        file: The whole file. It stays open when this object is closed.
        parts: The parts, in the order in which they are read.
        limit: How many bytes can be read in total. It can be changed at any time.

    Example:
        >>> import io
        >>> from renoise.data.file_parts import FileParts
        >>> FileParts(io.BytesIO(b"one two three"), [(8, 5), (0, 3)], limit=100).read()
        b'threeone'
    """

    def __init__(self, file: BinaryIO, parts: Sequence[Part], limit: int) -> None:
        super().__init__()
        self.file, self.parts, self.limit = file, parts, limit
        self.size = sum(length for _, length in parts)
        self._position = 0

    def read(self, size: int | None = -1) -> bytes:
        """Returns the next bytes, fewer where the parts end before.

        Args:
            size: How many; negative or None for the rest.

        Raises:
            UnreadableImageError: They are more than the limit allows.
        """
        rest = max(0, self.size - self._position)
        wanted = rest if size is None or size < 0 else min(size, rest)
        self.limit -= wanted
        if self.limit < 0:
            raise UnreadableImageError("is too large: its header is not that of a picture of this size")
        content = []
        start = self._position
        for part_start, length in self.parts:
            if start < length and wanted:
                self.file.seek(part_start + start)
                content.append(self.file.read(min(wanted, length - start)))
                wanted -= len(content[-1])
                start += len(content[-1])
                self._position += len(content[-1])
                if start < length:  # all is read, or the file is shorter than it was
                    break
            start -= length
        return b"".join(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position, see `io.IOBase.seek`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def fileno(self) -> int:
        """Returns the descriptor of the whole file where that is what is read, so that libtiff need not copy it.

        Raises:
            OSError: There is no such descriptor.
        """
        if list(self.parts) != [(0, self.size)]:
            raise io.UnsupportedOperation("fileno")
        return self.file.fileno()

    def tell(self) -> int:
        """Returns the position."""
        return self._position

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True
