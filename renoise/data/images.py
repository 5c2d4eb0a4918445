"""From an image file to pixels: upright, of a wanted size, RGB, or a short reason why not."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from renoise.data.batch import ImageSource
from renoise.data.resizing import Fit, place, shown, time_ids
from renoise.errors import InputError

NOT_OPENED = {
    "EPS",  # runs Ghostscript
    "IPTC",  # opens whatever is wrapped in it, EPS too
    "BUFR", "GRIB", "HDF5", "WMF",  # Pillow leaves their pixels to handlers that other packages register
    "MPEG",  # recognized, never decoded
}  # fmt: skip

SIDEWAYS = {5, 6, 7, 8}
"""EXIF orientations of images whose rows are the upright image's columns."""

FILE_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnreadableImageError(InputError):
    """A file that does not hold a usable image; the message says what was found instead, without the file's name."""


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are opened, those with the clearest signatures first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_OPENED)


@cache
def suffixes() -> frozenset[str]:
    """The endings, ".jpg" and the like in lower case, by which files count as images."""
    readable = {*formats(), "MPO"}  # Pillow reads MPO through its JPEG plugin
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


class ImageContent(NamedTuple):
    """Pixels float32 [3, H, W] in [0, 1], sha256 of the file's bytes in hexadecimal, and SDXL's `time_ids`."""

    pixels: Tensor
    sha256: str
    time_ids: tuple[int, ...]


def read_image(source: Path | ImageSource, resolution: int | tuple[int, int], fit: Fit = "crop") -> ImageContent:
    """What an image file holds, its pixels as float32 [3, height, width] in [0, 1].

    The upright image, resized by Lanczos' filter; transparent parts turn white; the first frame of an animation.

    Args:
        source: the file, or what else knows how to read one.
        resolution: side of the square that the image is brought into, or height and width of the frame.
        fit: how; by default the middle of the image fills it.

    Raises:
        UnreadableImageError: whatever is wrong with the file.
    """
    data = read_bytes(source)
    pixels, ids = decode_image(data, resolution, fit)
    return ImageContent(pixels, hashlib.sha256(data).hexdigest(), ids)


def read_size(source: Path | ImageSource) -> tuple[int, int] | None:
    """Height and width of an upright image by the head of its file, None where that cannot be read."""
    try:
        if isinstance(source, Path) and not source.is_file():  # opening a pipe can hang
            return None
        file = source if isinstance(source, Path) else io.BytesIO(source.read())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats()) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
                return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # on damaged data Pillow raises almost any type; what is wrong is said when the image is read
        return None


def read_bytes(path: Path | ImageSource) -> bytes:
    """The bytes of a regular file; other paths are refused before they are opened, since opening a pipe can hang.

    Raises:
        UnreadableImageError: no file, no regular file, no permission.
    """
    try:
        if not isinstance(path, Path):
            return path.read()
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        is_link = isinstance(path, Path) and os.path.islink(path)
        found = "is a link to a file that does not exist" if is_link else "does not exist"
        raise UnreadableImageError(found) from None
    except (OSError, MemoryError) as error:
        raise UnreadableImageError(f"cannot be read: {_reason(error)}") from error


def check_regular(path: Path) -> None:
    """Raises UnreadableImageError where a path is no regular file, OSError where that cannot be found out."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise UnreadableImageError(f"is {FILE_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


def read_part(path: Path, start: int, length: int) -> bytes:
    """So many bytes of a file, from a place on; fewer where it ends before.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def decode_image(data: bytes, resolution: int | tuple[int, int], fit: Fit = "crop") -> tuple[Tensor, tuple[int, ...]]:
    """The pixels and the time ids of an image file's bytes; see `read_image`.

    Raises:
        UnreadableImageError: the bytes are no image, or one that is damaged, too large or without a defined white.
    """
    frame = (resolution, resolution) if isinstance(resolution, int) else resolution
    found = "image"  # until its format is known
    try:
        # Neither large images that are within Pillow's limit nor oddities in metadata are the user's concern.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                found = f"{image.format} image"
                _turn_upright(image)
                part = image.crop(shown(image.height, image.width, frame, fit))
                ids = time_ids(image.height, image.width, frame, fit)
                fitted = place(_to_rgb(part), frame, fit)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        start = f"starts with {data[:8]!r}" if data else "0 bytes"
        raise UnreadableImageError(f"is not an image in a known format ({start})") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"is too large: {error}") from None
    except Exception as error:  # on damaged data Pillow raises almost any type: SyntaxError, struct.error, EOFError, …
        raise UnreadableImageError(f"{found} cannot be decoded: {_reason(error)}") from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous().float() / 255, ids


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _turn_upright(image: Image.Image) -> None:
    image.load()
    # It turns the pixels first, then rewrites the metadata, and on odd metadata fails at that, which does not matter.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImageError("floating-point image: which value is white is not defined")
    if image.mode.startswith("I"):
        return _to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Gray in 0…65535 to 0…255; Pillow's own conversion would clip at 255."""
    values = np.asarray(image, dtype=np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(f"gray image with values {values.min()} to {values.max()}, beyond 16 bits")
    transparent = values == image.info.get("transparency")
    return Image.fromarray(np.where(transparent, 255, (values + 128) // 257).astype(np.uint8))
