"""Target sizes of images and how they are reached: a square or a bucket near the image's own shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

from PIL import Image, ImageOps

Fit = Literal["crop", "stretch", "pad"]
"""`crop` fills the target size with the middle of the image; `stretch` fills it with the whole image and changes its
shape; `pad` shows the whole image in its own shape, between white margins."""
Resize = Literal["crop", "stretch", "pad", "bucket"]
"""A `Fit` to a square, or `bucket`: a crop to the bucket whose shape is nearest to the image's."""

MAX_SIDE = 2
"""Longest side of a bucket, as a multiple of `resolution`."""
STEPS = 16
"""Sides of buckets differ by `resolution` / 16: 64 pixels at 1024, as in SDXL (arXiv 2307.01952, appendix I)."""


def crop_box(height: int, width: int, size: tuple[int, int], fit: Fit) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) of the part of an image that is visible, in the image's pixels.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Target size, (height, width) in pixels.
        fit: How the image is fitted to the target size.

    Example:
        >>> from renoise.data.resizing import crop_box
        >>> crop_box(60, 100, (64, 64), "crop")
        (20, 0, 80, 60)
    """
    if fit != "crop":
        return 0, 0, width, height
    part_width = min(width, max(1, round(height * size[1] / size[0])))
    part_height = min(height, max(1, round(width * size[0] / size[1])))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height


def resize_into(part: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Returns the visible part of an image, resized to its target size by Lanczos' filter.

    Args:
        part: The part inside the `crop_box`.
        size: Target size, (height, width) in pixels.
        fit: How the image is fitted to the target size.
    """
    height, width = size
    if fit == "pad":
        return ImageOps.pad(part, (width, height), Image.Resampling.LANCZOS, color="white")
    return part.resize((width, height), Image.Resampling.LANCZOS)


def time_ids(height: int, width: int, size: tuple[int, int], fit: Fit = "crop") -> tuple[int, int, int, int, int, int]:
    """Returns SDXL's micro-conditioning of an image (arXiv 2307.01952, section 2.2).

    Args:
        height: Height of the upright original in pixels.
        width: Width of the upright original in pixels.
        size: Target size, (height, width) in pixels.
        fit: How the image is fitted to the target size.

    Returns:
        (original height, original width, crop top, crop left, target height, target width). The corner of the crop is
        in pixels of the image resized so that it just covers the target size. It is (0, 0) where nothing is cropped.

    Example:
        >>> from renoise.data.resizing import time_ids
        >>> time_ids(50, 100, (512, 512))
        (50, 100, 0, 256, 512, 512)
    """
    top = left = 0
    if fit == "crop" and height * size[1] > width * size[0]:
        top = (height * size[1] // width - size[0]) // 2
    elif fit == "crop":
        left = (width * size[0] // height - size[1]) // 2
    return height, width, top, left, *size


def bucket(height: int, width: int, resolution: int, size_multiple: int) -> tuple[int, int]:
    """Returns the (height, width) of the bucket whose shape is nearest to an image's.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        resolution: Side of the square bucket, in pixels.
        size_multiple: The model takes sides that are multiples of this.
    """
    shape = math.log(height / width)
    return min(buckets(resolution, size_multiple), key=lambda size: abs(math.log(size[0] / size[1]) - shape))


@cache
def buckets(resolution: int, size_multiple: int) -> list[tuple[int, int]]:
    """Returns the (height, width) of all buckets: the square, then wide and tall ones with at most as many pixels.

    Args:
        resolution: Side of the square bucket, in pixels.
        size_multiple: The model takes sides that are multiples of this.
    """
    step = size_multiple * max(1, resolution // STEPS // size_multiple)
    square = resolution // size_multiple * size_multiple
    long_sides = range(square + step, MAX_SIDE * resolution + 1, step)
    tall = [(side, max(step, resolution**2 // side // step * step)) for side in long_sides]
    return [(square, square), *tall, *((width, height) for height, width in tall)]


def batches_of_one_size(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Returns the positions of images in batches of one size each, in the order of the batches' first images.

    Args:
        sizes: Target size of each image, (height, width).
        batch_size: Largest number of images in a batch.
    """
    positions: dict[tuple[int, int], list[int]] = {}
    for position, size in enumerate(sizes):
        positions.setdefault(size, []).append(position)
    return sorted(
        same_size[start : start + batch_size]
        for same_size in positions.values()
        for start in range(0, len(same_size), batch_size)
    )
