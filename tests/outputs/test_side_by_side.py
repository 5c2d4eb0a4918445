from __future__ import annotations

import numpy as np
from PIL import Image

from renoise.outputs.side_by_side import Panel, side_by_side


def test_small_pictures_are_enlarged_by_a_whole_number_and_large_ones_are_not() -> None:
    colors = ("red", "lime", "blue")
    for side, shown in ((64, 192), (300, 300)):
        panels = [Panel(Image.new("RGB", (side, side), color), color, "") for color in colors]
        sheet = np.asarray(side_by_side(panels))
        assert sheet.shape[1] == 8 + 3 * (shown + 8)
        for color, pixel in zip(colors, np.eye(3, dtype=np.uint8) * 255, strict=True):
            assert (sheet == pixel).all(axis=2).sum() == shown**2, color


def test_a_long_text_takes_more_lines() -> None:
    picture = Image.new("RGB", (64, 64))
    short, long = (side_by_side([Panel(picture, "edit", text)]) for text in ("a dog", "a dog " * 20))
    assert long.height > short.height
    assert long.width == short.width
    added = np.asarray(long)[short.height :]
    assert (added < 128).any()  # letters
