"""The chunks of a PNG file that its picture consists of, without the texts and animations that can be gigabytes.

Source: Portable Network Graphics Specification, third edition, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from renoise.data.file_parts import Part
from renoise.data.files import UnreadableImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FRAME = 12
"""Bytes of a chunk beside its content: length, name and checksum."""
KEPT = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf"}
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Keywords of the texts that can say which side is up."""
MAX_TEXT = 64 * 2**10
MAX_PROFILE = 16 * 2**20
"""Largest size in bytes of a text and of an ICC profile that are read. Profiles of printers have some 2 MB."""
MAX_CHUNKS, MAX_PARTS = 2**20, 256
"""A picture of 1 GB in the smallest usual chunks, of 8 KB, has 131,072 of them, in a handful of parts."""


class PNGParts(NamedTuple):
    """What Pillow needs of a PNG file, and what it does not read.

    Args:
        parts: The picture's parts of the file. What says which side is up comes before the pixels, wherever it is.
        profile: The ICC profile; None where there is none, or none that can be unpacked.
        has_profile: Whether the file has an ICC profile.
        code_points: Content of the chunk cICP; empty where there is none.
    """

    parts: list[Part]
    profile: bytes | None = None
    has_profile: bool = False
    code_points: bytes = b""


def png_parts(file: BinaryIO, size: int) -> PNGParts:
    """Returns the parts of a PNG file that its picture consists of. The pixels are not read.

    Args:
        file: The file.
        size: Its length in bytes.

    Raises:
        OSError: The file cannot be read.
        UnreadableImageError: The file consists of too many chunks.
    """
    header: list[Part] = [(0, len(SIGNATURE))]
    pixels: list[Part] = []
    found: dict[str, bytes] = {}
    for number, (name, start, length) in enumerate(_chunks(file, size)):
        part = start - 8, length + FRAME
        is_critical = name[:1].isupper()
        if number == MAX_CHUNKS or len(header) > MAX_PARTS:
            raise UnreadableImageError(f"PNG image cannot be decoded: more than {number} chunks")
        if name == b"iCCP" and "profile" not in found:
            found["profile"] = _read(file, start, min(length, MAX_PROFILE))
        elif name == b"cICP":
            found["code_points"] = _read(file, start, 4)
        elif name == b"IEND" or (name == b"IDAT" and (not pixels or sum(pixels[-1]) == part[0])):
            _append(pixels, part)  # pixels are in one piece
        elif name in KEPT or (is_critical and name != b"IDAT") or _says_orientation(file, name, start, length):
            _append(header, part)
    profile = _unpacked(found["profile"]) if "profile" in found else None
    return PNGParts([*header, *pixels], profile, "profile" in found, found.get("code_points", b""))


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the name of each chunk, and where its content starts and how long it is, up to IEND or to damage."""
    position = len(SIGNATURE)
    while position + 8 <= size:
        length, name = struct.unpack(">I4s", _read(file, position, 8))
        if not name.isalpha():
            return
        yield name, position + 8, length
        if name == b"IEND":
            return
        position += length + FRAME


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    content = file.read(length)
    if len(content) < length:
        raise UnreadableImageError("PNG image cannot be decoded: image file is truncated")
    return content


def _append(parts: list[Part], part: Part) -> None:
    """Adds a part, as one with the last part where it follows it directly."""
    start, length = parts[-1] if parts else (0, 0)
    if parts and start + length == part[0]:
        parts[-1] = start, length + part[1]
    else:
        parts.append(part)


def _says_orientation(file: BinaryIO, name: bytes, start: int, length: int) -> bool:
    if name not in (b"tEXt", b"zTXt", b"iTXt") or length > MAX_TEXT:
        return False
    return _read(file, start, min(length, 32)).startswith(ORIENTATION_TEXTS)


def _unpacked(content: bytes) -> bytes | None:
    """Returns the profile in a chunk iCCP: a name that ends with zero, the method zero, and compressed bytes."""
    _, _, rest = content.partition(b"\0")
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(rest[1:], MAX_PROFILE)
    except zlib.error:
        return None
    return profile if decompressor.eof else None
