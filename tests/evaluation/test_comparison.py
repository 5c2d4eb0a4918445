from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


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
    original = place(masked_pictures / "b.png")
    ddim = place(runs / "DDIM/reconstructions/b.png.png")
    renoise = place(runs / "ReNoise, iterations 3/reconstructions/b.png.png")
    edit = place(runs / "DDIM/edits/PromptSwap/b.png.png")  # of two guidances, the lower
    assert original[0] == ddim[0] == renoise[0]
    assert original[1] < ddim[1] < renoise[1]
    assert edit[1] == ddim[1]
    assert edit[0] > ddim[0]
