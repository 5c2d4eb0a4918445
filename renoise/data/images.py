"""Reads image files: upright RGB pixels of the target size, or a short message that says what is wrong."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from renoise.data.files import UnreadableImageError, error_text, read_bytes
from renoise.data.formats import formats
from renoise.data.records import ImageSource
from renoise.data.resizing import Fit, crop_box, resize_into, time_ids

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation. From 5 on, height and width change places."""


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
    source: str | PathLike[str] | ImageSource, size: int | tuple[int, int], fit: Fit = "crop"
) -> ImageContent:
    """Reads an image file as upright pixels of the target size.

    Images are resized by Lanczos' filter. Transparent parts become white. Of an animation, the first frame is read.

    Args:
        source: The file, or an object that reads one.
        size: Target size in pixels: side of a square, or (height, width).
        fit: How the image is fitted to the target size.

    Returns:
        The pixels, float32 [3, height, width] in [0, 1], the file's hash, and SDXL's time ids.

    Raises:
        UnreadableImageError: The file does not exist, cannot be read or is not a usable image.

    Example:
        >>> from renoise.data import read_image
        >>> read_image("data/images/photographs/coffee.jpg", 64).pixels.shape
        torch.Size([3, 64, 64])
    """
    data = read_bytes(Path(source) if isinstance(source, str | PathLike) else source)
    pixels, ids = decode_image(data, size, fit)
    return ImageContent(pixels, hashlib.sha256(data).hexdigest(), ids)


def read_size(source: Path | ImageSource) -> tuple[int, int] | None:
    """Returns the height and width of an upright image, or None where the file cannot be read.

    Args:
        source: The file, or an object that reads one.
    """
    try:
        if isinstance(source, Path) and not source.is_file():  # opening a pipe can hang
            return None
        file = source if isinstance(source, Path) else io.BytesIO(source.read())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats()) as image:
                # Pillow gives the size of an upright TIFF already.
                is_turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
                return (image.width, image.height) if is_turned else (image.height, image.width)
    except Exception:  # on damaged data Pillow raises almost any type; `read_image` says what is wrong
        return None


def decode_image(data: bytes, size: int | tuple[int, int], fit: Fit = "crop") -> tuple[Tensor, tuple[int, ...]]:
    """Returns the pixels and the time ids of the bytes of an image file; see `image_to_pixels`.

    Raises:
        UnreadableImageError: The bytes are not an image, or the image is damaged, too large or has no defined white.
    """
    with _unreadable_if_decoding_fails("image"):
        try:
            image = Image.open(io.BytesIO(data), formats=formats())
        except UnidentifiedImageError:
            start = f"starts with {data[:8]!r}" if data else "0 bytes"
            raise UnreadableImageError(f"is not an image in a known format ({start})") from None
    with image:
        return image_to_pixels(image, size, fit)


def image_to_pixels(
    image: Image.Image, size: int | tuple[int, int], fit: Fit = "crop"
) -> tuple[Tensor, tuple[int, ...]]:
    """Returns the pixels of an image and SDXL's time ids; see `read_image`. The image itself stays as it is.

    Args:
        image: The image, in any mode.
        size: Target size in pixels: side of a square, or (height, width).
        fit: How the image is fitted to the target size.

    Returns:
        float32 [3, height, width] in [0, 1], and the six `time_ids`.

    Raises:
        UnreadableImageError: The image is damaged, too large or has no defined white.
    """
    target = (size, size) if isinstance(size, int) else size
    with _unreadable_if_decoding_fails(f"{image.format or image.mode} image"):
        upright = _turn_upright(image)
        part = upright.crop(crop_box(upright.height, upright.width, target, fit))
        resized = resize_into(_to_rgb(part), target, fit)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().float() / 255
        return pixels, time_ids(upright.height, upright.width, target, fit)


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


def _turn_upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata; Pillow raises almost any type
        return image
    return image if turn is None else image.transpose(turn)


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
    """Maps gray values from 0…65535 to 0…255. Pillow's own conversion would clip at 255."""
    values = np.asarray(image, dtype=np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(f"gray image with values {values.min()} to {values.max()}, beyond 16 bits")
    transparent = values == image.info.get("transparency")
    return Image.fromarray(np.where(transparent, 255, (values + 128) // 257).astype(np.uint8))
