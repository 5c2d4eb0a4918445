"""The bytes of image files."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

RGB, GRAY = 2, 0
"""Color types of PNG."""


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """Returns the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width: int, height: int, bits: int = 8, color: int = RGB) -> bytes:
    """Returns a PNG file whose header has this size, without pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
