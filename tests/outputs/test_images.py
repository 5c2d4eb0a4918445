from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from renoise.outputs.images import to_pil, to_png


def test_values_are_rounded_to_8_bits_and_clipped() -> None:
    values = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.5])
    picture = to_pil(values.expand(3, 2, 6))
    assert (picture.mode, picture.size) == ("RGB", (6, 2))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_a_png_file_has_every_pixel_of_the_picture() -> None:
    picture = to_pil(torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)))
    with Image.open(io.BytesIO(to_png(picture))) as read:
        assert read.format == "PNG"
        assert read.tobytes() == picture.tobytes()


def test_a_png_file_says_that_its_colors_are_srgb() -> None:
    content = to_png(to_pil(torch.rand(3, 8, 8)))
    assert content.index(b"sRGB") < content.index(b"IDAT")
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["srgb"] == 0
