from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from renoise.data.masks import fit_mask
from renoise.demo.drawn_mask import canvas_side, mask_from_layers
from renoise.errors import InputError


def drawn(side: int, box: tuple[int, int, int, int]) -> Image.Image:
    layer = Image.new("RGBA", (side, side))
    layer.paste((255, 255, 255, 178), box)
    return layer


@pytest.mark.parametrize("size", [(64, 64), (120, 200), (501, 333)])
def test_what_is_drawn_on_the_square_is_there_in_the_mask_of_the_picture(size: tuple[int, int]) -> None:
    import torch

    canvas = canvas_side(64)
    mask = mask_from_layers([drawn(canvas, (0, 0, canvas // 2, canvas))], canvas, size)
    assert mask is not None
    assert (mask.height, mask.width) == size
    fitted = fit_mask(torch.from_numpy(np.asarray(mask) > 127), (64, 64), "crop")
    assert fitted[:, :31].all()
    assert not fitted[:, 33:].any()


def test_two_layers_are_one_mask_and_nothing_drawn_is_none() -> None:
    layers = [drawn(320, (0, 0, 10, 10)), drawn(320, (50, 50, 60, 60))]
    mask = mask_from_layers(layers, 320, (320, 320))
    assert mask is not None
    assert (np.asarray(mask) > 0).sum() == 200
    assert mask_from_layers([], 320, (64, 64)) is None
    assert mask_from_layers([Image.new("RGBA", (320, 320))], 320, (64, 64)) is None


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="mask: it has 8×8 pixels and the picture 320×320; draw on the picture itself"):
        mask_from_layers([drawn(8, (0, 0, 4, 4))], 320, (64, 64))


def test_large_squares_are_drawn_on_as_they_are() -> None:
    assert [canvas_side(side) for side in (64, 256, 512, 1024)] == [320, 256, 512, 1024]
