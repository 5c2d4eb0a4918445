"""Reads image files: upright sRGB pixels of the target size, or a short message that says what is wrong."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from renoise.data.colors import color_conversion, reduced_to_srgb
from renoise.data.files import UnreadableImageError, error_text
from renoise.data.image_files import open_file, open_image, orientation, sha256, upright_size
from renoise.data.image_memory import MAX_MEMORY, check_memory
from renoise.data.records import ImageSource
from renoise.data.resizing import Fit, crop_box, resize_into, time_ids
from renoise.errors import InputWarning

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""
SIDEWAYS = {TURNS[number] for number in (5, 6, 7, 8)}
"""The turns by which height and width change places."""
GAP, MIN_SIDE = 3, 1024
"""An image is reduced as long as it keeps three pixels for each one of the target, and 1,024 in each direction. The
result is nearly the same as without (Pillow's documentation of `reducing_gap`)."""


class ImageContent(NamedTuple):
    """What an image file contains.

    Args:
        pixels: float32 [3, H, W] in [0, 1].
        sha256: Hash of the file's bytes, in hexadecimal.
        time_ids: SDXL's sizes and crop offsets, see `renoise.data.resizing.time_ids`.
    """

    pixels: Tensor
    sha256: str
    time_ids: tuple[int, ...]


def read_image(
    source: str | PathLike[str] | ImageSource,
    size: int | tuple[int, int],
    fit: Fit = "crop",
    max_memory: int = MAX_MEMORY,
    name: str | None = None,
) -> ImageContent:
    """Reads an image file as upright sRGB pixels of the target size.

    Images are resized by Lanczos' filter. Large ones are reduced by a whole number before, JPEG files while they are
    decoded. Colors with an ICC profile are converted to sRGB. Transparent parts become white. Of an animation, the
    first frame is read.

    Args:
        source: The file, or an object that reads one.
        size: Target size in pixels: side of a square, or (height, width).
        fit: How the image is fitted to the target size.
        max_memory: Memory in MiB that reading may take, and the largest length of a file.
        name: Name of the image in warnings; None takes that of the file.

    Returns:
        The pixels, float32 [3, height, width] in [0, 1], the file's hash, and SDXL's time ids.

    Raises:
        UnreadableImageError: The file does not exist, cannot be read, is too large or is not a usable image.

    Example:
        >>> from renoise.data import read_image
        >>> read_image("data/photographs/coffee.jpg", 64).pixels.shape
        torch.Size([3, 64, 64])
    """
    path_or_source = Path(source) if isinstance(source, str | PathLike) else source
    with open_file(path_or_source) as file:
        name = name or (str(source) if isinstance(source, str | PathLike) else "image")
        pixels, ids = _decode(file, size, fit, max_memory, name)
        with _unreadable_if_decoding_fails("the file"):
            return ImageContent(pixels, sha256(file), ids)


def read_size(source: Path | ImageSource) -> tuple[int, int] | None:
    """Returns the height and width of an upright image, or None where the file cannot be read. No pixel is decoded.

    Args:
        source: The file, or an object that reads one.
    """
    try:
        with open_file(source) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return upright_size(open_image(file, sys.maxsize))
    except Exception:  # on damaged data Pillow raises almost any type; `read_image` says what is wrong
        return None


def decode_image(data: bytes, size: int | tuple[int, int], fit: Fit = "crop") -> tuple[Tensor, tuple[int, ...]]:
    """Returns the pixels and the time ids of the bytes of an image file; see `read_image`.

    Raises:
        UnreadableImageError: The bytes are not an image, or the image is damaged, too large or has no defined white.
    """
    return _decode(io.BytesIO(data), size, fit, MAX_MEMORY, "image")


def _decode(
    file: BinaryIO, size: int | tuple[int, int], fit: Fit, max_memory: int, name: str
) -> tuple[Tensor, tuple[int, ...]]:
    with _unreadable_if_decoding_fails("image"):
        image = open_image(file, max_memory * 2**20)
    with image:
        full_size, side = image.size, _enough(size)
        with _unreadable_if_decoding_fails(f"{image.format} image"):
            if isinstance(image, JpegImageFile):
                image.draft(None, (side, side))
            check_memory(image, full_size, _factor(image, side), max_memory)
        return image_to_pixels(image, size, fit, name, full_size)


def image_to_pixels(
    image: Image.Image,
    size: int | tuple[int, int],
    fit: Fit = "crop",
    name: str = "image",
    full_size: tuple[int, int] | None = None,
) -> tuple[Tensor, tuple[int, ...]]:
    """Returns the pixels of an image and SDXL's time ids; see `read_image`. The image itself stays as it is.

    Args:
        image: The image, in any mode. Its ICC profile is `info["icc_profile"]`, as Pillow reads it.
        size: Target size in pixels: side of a square, or (height, width).
        fit: How the image is fitted to the target size.
        name: Name of the image in warnings.
        full_size: (width, height) of the original, where the image is decoded at a fraction of it.

    Returns:
        float32 [3, height, width] in [0, 1], and the six `time_ids`.

    Raises:
        UnreadableImageError: The image is damaged, too large or has no defined white.
    """
    target = (size, size) if isinstance(size, int) else size
    with _unreadable_if_decoding_fails(f"{image.format or image.mode} image"):
        width, height = full_size or image.size
        transform, note = color_conversion(image)
        image.load()
        turn = TURNS.get(orientation(image))
        upright = reduced_to_srgb(image, transform, _factor(image, _enough(size)))
        if turn is not None:
            upright = upright.transpose(turn)
        if turn in SIDEWAYS:
            width, height = height, width
        part = upright.crop(crop_box(upright.height, upright.width, target, fit))
        resized = resize_into(part, target, fit)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().float() / 255
    if note is not None:
        warnings.warn(f"{name}: {note}", InputWarning, stacklevel=2)
    return pixels, time_ids(height, width, target, fit)


def _enough(size: int | tuple[int, int]) -> int:
    """Returns how many pixels in each direction are left of a large image before it is resized."""
    return max(MIN_SIDE, GAP * (size if isinstance(size, int) else max(size)))


def _factor(image: Image.Image, side: int) -> int:
    """Returns by which whole number an image can be reduced so that each side keeps this many pixels."""
    return max(1, min(image.size) // side)


@contextmanager
def _unreadable_if_decoding_fails(found: str) -> Iterator[None]:
    """Turns every error inside the block into an `UnreadableImageError` about `found`, and hides Pillow's warnings."""
    try:
        # The user need not know of large images within Pillow's limit, nor of odd metadata.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"is too large: {error}") from None
    except Exception as error:  # on damaged data Pillow raises almost any type: SyntaxError, struct.error, EOFError, …
        raise UnreadableImageError(f"{found} cannot be decoded: {error_text(error)}") from error
