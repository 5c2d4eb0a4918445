"""Masks that a visitor draws on the square that is edited, as masks of the whole picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from renoise.data.resizing import crop_box
from renoise.errors import InputError

LEAST_CANVAS = 320
"""Squares smaller than about this many pixels are enlarged by a whole number to be drawn on."""


def canvas_side(side: int) -> int:
    """Returns the side of the square that is drawn on, in pixels.

    Args:
        side: That of the picture's middle square, at the model's resolution.
    """
    return side * max(1, round(LEAST_CANVAS / side))


def enlarged(square: Image.Image) -> Image.Image:
    """Returns the middle square of a picture in the size that it is drawn on in.

    Args:
        square: The middle square, at the model's resolution.
    """
    side = canvas_side(square.width)
    return square.resize((side, side), Image.Resampling.NEAREST)


def mask_from_layers(layers: Sequence[Image.Image], side: int, picture_size: tuple[int, int]) -> Image.Image | None:
    """Returns what was drawn as a mask of the picture: white where its edit may change it. None if nothing was drawn.

    Args:
        layers: What was drawn, transparent elsewhere.
        side: Side of the square that was drawn on, in pixels.
        picture_size: (height, width) of the picture, in pixels.

    Raises:
        InputError: A layer has another size than the square.
    """
    drawn = np.zeros((side, side), dtype=bool)
    for layer in layers:
        if layer.size != (side, side):
            found, expected = "×".join(map(str, layer.size)), f"{side}×{side}"
            raise InputError(f"mask: it has {found} pixels and the picture {expected}; draw on the picture itself")
        drawn |= np.asarray(layer.convert("RGBA"))[..., 3] > 0
    if not drawn.any():
        return None
    height, width = picture_size
    left, top, right, bottom = crop_box(height, width, (side, side), "crop")
    mask = Image.new("L", (width, height), "black")
    part = Image.fromarray(drawn).resize((right - left, bottom - top), Image.Resampling.NEAREST)
    mask.paste(part.convert("L"), (left, top))
    return mask
