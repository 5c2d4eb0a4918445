"""Into what frame an image is brought, and how: a square, or a shape near its own; cropped, stretched or padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

from PIL import Image, ImageOps

Fit = Literal["crop", "stretch", "pad"]
"""`crop` fills the frame and leaves out what stands over, as much on either side; `stretch` fills it with all of the
image; `pad` keeps all of the image and its shape, between white margins."""
Resize = Literal["crop", "stretch", "pad", "bucket"]
"""The same into a square, and `bucket`: cropped to the frame, of several shapes, that loses least."""

LONGEST = 2
"""How many times `resolution` the long side of a bucket is at most."""
FINENESS = 16
"""Buckets' sides go by a sixteenth of `resolution`: 64 pixels of 1024, as SDXL's (arXiv 2307.01952, appendix I)."""


def shown(height: int, width: int, frame: tuple[int, int], fit: Fit) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the part of an image that a frame (height, width) shows, in the image's pixels."""
    if fit != "crop":
        return 0, 0, width, height
    across = min(width, max(1, round(height * frame[1] / frame[0])))
    down = min(height, max(1, round(width * frame[0] / frame[1])))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def place(part: Image.Image, frame: tuple[int, int], fit: Fit) -> Image.Image:
    """The part that is shown, resized by Lanczos' filter into a frame (height, width)."""
    size = frame[1], frame[0]
    if fit == "pad":
        return ImageOps.pad(part, size, Image.Resampling.LANCZOS, color="white")
    return part.resize(size, Image.Resampling.LANCZOS)


def time_ids(height: int, width: int, frame: tuple[int, int], fit: Fit = "crop") -> tuple[int, int, int, int, int, int]:
    """(original height, original width, crop top, crop left, target height, target width) of an image in a frame.

    The original is the upright image of the file, in its own pixels. The crop's corner is in pixels of the image
    resized so that it just covers the frame; where nothing is cropped it is (0, 0). SDXL's micro-conditioning: arXiv
    2307.01952, section 2.2.
    """
    top = left = 0
    if fit == "crop" and height * frame[1] > width * frame[0]:
        top = (height * frame[1] // width - frame[0]) // 2
    elif fit == "crop":
        left = (width * frame[0] // height - frame[1]) // 2
    return height, width, top, left, *frame


def bucket(height: int, width: int, resolution: int, size_multiple: int) -> tuple[int, int]:
    """The frame (height, width), of about `resolution`² pixels, whose shape is nearest to an image's.

    Args:
        height: of the image.
        width: of the image.
        resolution: side of the square frame.
        size_multiple: what the model asks of every side.
    """
    shape = math.log(height / width)
    return min(buckets(resolution, size_multiple), key=lambda frame: abs(math.log(frame[0] / frame[1]) - shape))


@cache
def buckets(resolution: int, size_multiple: int) -> list[tuple[int, int]]:
    """All frames (height, width) there are: the square, and wide ones and tall ones that have no more pixels."""
    step = size_multiple * max(1, resolution // FINENESS // size_multiple)
    square = resolution // size_multiple * size_multiple
    long_sides = range(square + step, LONGEST * resolution + 1, step)
    tall = [(side, max(step, resolution**2 // side // step * step)) for side in long_sides]
    return [(square, square), *tall, *((width, height) for height, width in tall)]


def batches_of_one_frame(frames: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Positions of images, at most `batch_size` of one frame together, in the order of their first images."""
    alike: dict[tuple[int, int], list[int]] = {}
    for position, frame in enumerate(frames):
        alike.setdefault(frame, []).append(position)
    return sorted(
        same[start : start + batch_size] for same in alike.values() for start in range(0, len(same), batch_size)
    )
