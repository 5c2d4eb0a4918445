"""Opens image files: format, size and metadata, before any pixel is decoded."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from renoise.data.file_parts import FileParts
from renoise.data.files import UnreadableImageError, check_regular, error_text, unreadable_if_reading_fails
from renoise.data.formats import HEIF_PACKAGE, formats
from renoise.data.png_chunks import png_parts
from renoise.data.records import ImageSource

MAX_HEADER = 64 * 2**20
"""Bytes that are read of a file before its pixels, in formats that do not keep the file in memory."""
READ_WHOLE = {"WEBP", "AVIF", "HEIF"}
"""Formats that keep the file in memory."""
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
NEW_SUBFILE_TYPE, DNG_VERSION = 254, 50706
"""Tags of TIFF files, which cameras' raw files are, too."""


@contextmanager
def open_file(source: Path | ImageSource) -> Iterator[BinaryIO]:
    """Opens a file. What is not a regular file is refused before it is opened, because a pipe can hang.

    Args:
        source: The file, or an object that reads one.

    Raises:
        UnreadableImageError: It does not exist, is not a regular file or cannot be opened.
    """
    with ExitStack() as stack:
        with unreadable_if_reading_fails(source):
            file = stack.enter_context(_open(source))
        yield file


def _open(source: Path | ImageSource) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, Path):
        check_regular(source)
        return source.open("rb")
    if hasattr(source, "open"):  # it does not read all bytes at once
        return cast(AbstractContextManager[BinaryIO], source.open())
    return io.BytesIO(source.read())


def open_image(file: BinaryIO, max_bytes: int) -> ImageFile.ImageFile:
    """Returns the image in a file, without its pixels. Its size is not limited as `PIL.Image.open` limits it.

    Args:
        file: The file. It must stay open until the pixels are decoded.
        max_bytes: Largest length of the file.

    Raises:
        UnreadableImageError: The file is in no known format, or larger than that.
        Exception: The header is damaged. Pillow raises almost any type.
    """
    size = file.seek(0, io.SEEK_END)
    start = FileParts(file, [(0, size)], MAX_HEADER).read(16)
    names = [name for name in formats() if _accepts(name, start)]
    if not names:
        raise UnreadableImageError(_unknown_format(start))
    if size > max_bytes:
        raise UnreadableImageError(f"is too large: a file of {size / 2**30:.1f} GiB")
    problems = []
    for name in names:  # AVIF and HEIC files may begin alike
        try:
            return _open_as(name, file, size)
        except (SyntaxError, IndexError, TypeError, KeyError, struct.error) as error:
            problems.append(f"{name} image cannot be decoded: {error_text(error)}")
    is_heif = start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS
    raise UnreadableImageError(_unknown_format(start) if is_heif and "HEIF" not in names else problems[0])


def _open_as(name: str, file: BinaryIO, size: int) -> ImageFile.ImageFile:
    """Returns the image in a file of a format, or raises what Pillow raises."""
    png = png_parts(file, size) if name == "PNG" else None
    content = FileParts(file, [(0, size)] if png is None else png.parts, MAX_HEADER)
    if name in READ_WHOLE:
        content.limit = 2 * size
    image = Image.OPEN[name][0](cast(BinaryIO, content), "")
    if png is not None and png.has_profile:
        image.info["icc_profile"] = png.profile or b"\0"
    if png is not None and png.code_points:
        image.info["cicp"] = png.code_points
    _check_not_raw(image)
    content.limit = 2 * size + MAX_HEADER  # decoders go back and forth
    return image


def _accepts(name: str, start: bytes) -> bool:
    accept = Image.OPEN[name][1]
    return accept is None or accept(start) is True


def _unknown_format(start: bytes) -> str:
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
        return f"is a HEIC image, for which you need the package {HEIF_PACKAGE}"
    found = f"starts with {start[:8]!r}" if start else "0 bytes"
    return f"is not an image in a known format ({found})"


def _check_not_raw(image: Image.Image) -> None:
    """Refuses cameras' raw files, whose first picture as TIFF is a small preview.

    Raises:
        UnreadableImageError: It is one.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and (
        DNG_VERSION in image.tag_v2 or image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & 1
    ):
        raise UnreadableImageError("is a camera's raw file, or begins with a preview; convert it to JPEG, PNG or TIFF")


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation of an image, 1 (upright) to 8. No pixel is decoded.

    Args:
        image: The image, as opened. Pillow turns TIFF images itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        # PngImageFile's own method would decode the pixels to find what comes after them.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata; Pillow raises almost any type
        return 1
    return found if found in range(1, 9) else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns the height and width that an image has once it is turned upright. No pixel is decoded."""
    return (image.width, image.height) if orientation(image) >= 5 else (image.height, image.width)


def sha256(file: BinaryIO) -> str:
    """Returns the SHA-256 of a whole file as hexadecimal digits. It is read in pieces."""
    file.seek(0)
    found = hashlib.sha256()
    while content := file.read(2**20):
        found.update(content)
    return found.hexdigest()
