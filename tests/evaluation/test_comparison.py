from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renoise.evaluation.comparison import Line, _most_different, _with_zoom


def test_a_column_is_a_method_and_an_edit_stands_below_its_reconstruction(
    evaluated: Path, masked_pictures: Path
) -> None:
    """Every picture is found in the sheet, enlarged by a whole number, in the order of methods and of edits."""
    sheet = np.asarray(Image.open(evaluated / "comparison.png").convert("RGB"))

    def place(path: Path) -> tuple[int, int]:
        """Top and left of a picture in the sheet."""
        with Image.open(path) as file:
            picture = np.asarray(file.convert("RGB").resize((160, 160), Image.Resampling.NEAREST))
        height, width = (np.array(sheet.shape[:2]) - 160).tolist()
        corners = np.argwhere((sheet[:height, :width] == picture[0, 0]).all(axis=2))
        (found,) = (
            (top, left)
            for top, left in corners.tolist()
            if np.array_equal(sheet[top : top + 160, left : left + 160], picture)
        )
        return found

    runs = evaluated / "runs"
    ddim = place(runs / "DDIM/reconstructions/b.png.png")
    renoise = place(runs / "ReNoise, iterations 3/reconstructions/b.png.png")
    edit = place(runs / "DDIM/edits/PromptSwap/b.png.png")  # of two guidances, the lower
    assert ddim[0] == renoise[0]
    assert ddim[1] < renoise[1]
    assert edit[1] == ddim[1]
    assert edit[0] > ddim[0]


@pytest.mark.parametrize("corner", [(0, 0), (12, 4), (48, 30)])
def test_the_part_that_differs_most_is_enlarged_and_marked(corner: tuple[int, int]) -> None:
    left, top = corner
    original = Image.new("RGB", (64, 40), "gray")
    good, bad = original.copy(), original.copy()
    bad.paste("white", (left, top, left + 16, top + 10))
    line, enlarged = _with_zoom(Line("reconstruction", [original, good, None, bad], ""))
    assert _most_different(original, [good, bad]) == (left, top, left + 16, top + 10)
    assert line.pictures[0] is not None
    assert line.pictures[0].getpixel(corner) == (255, 0, 0)
    assert line.pictures[1:] == [good, None, bad]
    colors = [picture and picture.getcolors() for picture in enlarged.pictures]
    assert colors == [[(64 * 40, (128, 128, 128))], [(64 * 40, (128, 128, 128))], None, [(64 * 40, (255, 255, 255))]]
