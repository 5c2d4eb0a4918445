"""Pictures of one size beside each other, each with a title above and a text below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

LEAST_SIDE = 192
"""Pictures smaller than this many pixels are enlarged by a whole number."""
GAP, FONT_SIZE, LINE, LETTER = 8, 14, 18, 7
"""Pixels: space between pictures, height of letters, distance of lines, width of a letter."""


class Panel(NamedTuple):
    """One of the pictures.

    Args:
        picture: The picture.
        title: Stands above it.
        text: Stands below it, in as many lines as it takes.
    """

    picture: Image.Image
    title: str
    text: str


def side_by_side(panels: Sequence[Panel]) -> Image.Image:
    """Draws pictures of one size in a row.

    Args:
        panels: The pictures, from left to right.

    Example:
        >>> from PIL import Image
        >>> from renoise.outputs.side_by_side import Panel, side_by_side
        >>> picture = Image.new("RGB", (64, 64))
        >>> side_by_side([Panel(picture, "original", ""), Panel(picture, "edit", "a dog")]).size
        (408, 244)
    """
    width, height = panels[0].picture.size
    scale = max(1, -(-LEAST_SIDE // max(width, height)))
    width, height = scale * width, scale * height
    texts = [textwrap.fill(panel.text, max(8, width // LETTER)) for panel in panels]
    lines = max(text.count("\n") + 1 for text in texts)
    top, font = GAP + LINE, ImageFont.load_default(FONT_SIZE)
    bottom = top + height + GAP
    sheet = Image.new("RGB", (GAP + (width + GAP) * len(panels), bottom + LINE * lines), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (panel, text) in enumerate(zip(panels, texts, strict=True)):
        left = GAP + column * (width + GAP)
        draw.text((left, GAP // 2), panel.title, "black", font)
        sheet.paste(panel.picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
        draw.multiline_text((left, bottom), text, "black", font)
    return sheet
