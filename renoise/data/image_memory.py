"""How much memory it takes to decode an image, from its header."""

from __future__ import annotations

import math
from typing import Any

from PIL import ExifTags, Image

from renoise.data.files import UnreadableImageError

MAX_MEMORY = 1024
"""Default in MiB. Four processes that read images fit into 8 GB with it, beside the model's."""
STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes per pixel in Pillow's memory, by mode; 4 in all other modes."""
DECODERS = {"WEBP": 12, "AVIF": 8, "HEIF": 12, "JPEG2000": 20}
"""Bytes per pixel that decoders take beside Pillow's memory. All but that of HEIF are measured."""
AFTERWARDS = 12
"""Bytes per pixel of the reduced image: in sRGB, turned, and cropped."""
CONSTANT = 64
"""MiB for the part whose colors are being converted."""
ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 278, 322, 323
"""Tags of TIFF files."""
MIB = 2**20


def check_memory(image: Image.Image, full_size: tuple[int, int], factor: int, max_memory: int) -> None:
    """Checks that an image can be read in a limited memory.

    Args:
        image: The image, as opened and before it is decoded. A `draft` has been chosen.
        full_size: (width, height) before the draft.
        factor: How much it is reduced once it is decoded.
        max_memory: In MiB.

    Raises:
        UnreadableImageError: It takes more.
    """
    stored, pixels = STORED.get(image.mode, 4), image.width * image.height
    needed = pixels * stored + pixels // factor**2 * AFTERWARDS
    if image.format == "TIFF":
        needed += _tiff_decoder(image, pixels * stored)
    elif image.info.get("progressive"):
        needed += _jpeg_coefficients(image, *full_size)
    else:
        needed += pixels * DECODERS.get(str(image.format), 0)
    megabytes = math.ceil(needed / MIB) + CONSTANT
    if megabytes > max_memory:
        raise UnreadableImageError(
            f"is too large: {full_size[0]}×{full_size[1]} pixels take {megabytes} MiB to read, more than "
            f"max_image_memory ({max_memory})"
        )


def _tiff_decoder(image: Any, stored: int) -> int:
    """Returns the bytes of one strip or tile, decoded, and those of a second image where Pillow turns it upright."""
    tags = image.tag_v2
    width = tags.get(TILE_WIDTH, image.width)
    height = tags.get(TILE_LENGTH, min(tags.get(ROWS_PER_STRIP, image.height), image.height))
    strip = width * height * sum(tags.get(ExifTags.Base.BitsPerSample, (8,))) // 8
    return int(strip + (stored if tags.get(ExifTags.Base.Orientation, 1) > 1 else 0))


def _jpeg_coefficients(image: Any, width: int, height: int) -> int:
    """Returns the bytes of a progressive JPEG's coefficients. All are in memory at any scale, two bytes each.

    `layer` lists the identifier and the sampling factors, horizontal and vertical, of each component.
    """
    factors = [(layer[1], layer[2]) for layer in image.layer]
    most = max(h for h, _ in factors) * max(v for _, v in factors)
    return int(2 * width * height * sum(h * v for h, v in factors) / most)
