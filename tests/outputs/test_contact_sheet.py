from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from renoise.outputs.contact_sheet import MARGIN, MAX_ROWS, TEXT_WIDTH, TILE, contact_sheet

WHITE = (255, 255, 255)


def row(name: str, **columns: Any) -> dict[str, Any]:
    return {"file_name": name, "status": "ok", "prompt": "a cat", "edit_prompt": None, "psnr": 20.0} | columns


def picture(path: Path, color: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), color).save(path)


def red(name: str) -> Image.Image:
    return Image.new("RGB", (64, 64), "red")


def tile(sheet: Image.Image, line: int, column: int) -> Any:
    """Returns the color in the middle of a tile."""
    left = TEXT_WIDTH + MARGIN + (TILE + MARGIN) * column
    return sheet.getpixel((left + TILE // 2, 24 + (TILE + MARGIN) * line + TILE // 2))


def test_a_row_shows_original_reconstruction_and_every_edit(tmp_path: Path) -> None:
    picture(tmp_path / "reconstructions/sub/a.jpg.png", "lime")
    picture(tmp_path / "edits/One/sub/a.jpg.png", "blue")
    picture(tmp_path / "edits/Two/sub/a.jpg.png", "yellow")
    sheet = contact_sheet([row("sub/a.jpg")], tmp_path, red, ["One", "Two"])
    assert sheet.width == TEXT_WIDTH + MARGIN + 4 * (TILE + MARGIN)
    assert [tile(sheet, 0, column) for column in range(4)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def test_rows_are_sorted_by_name_without_failed_images(tmp_path: Path) -> None:
    picture(tmp_path / "reconstructions/a.png", "lime")
    picture(tmp_path / "reconstructions/b.png", "blue")
    sheet = contact_sheet([row("b"), row("c", status="failed"), row("a")], tmp_path, red, [])
    assert sheet.height == 24 + 2 * (TILE + MARGIN)
    assert [tile(sheet, line, 1) for line in range(2)] == [(0, 255, 0), (0, 0, 255)]


def test_the_place_of_a_missing_picture_stays_white(tmp_path: Path) -> None:
    sheet = contact_sheet([row("a")], tmp_path, lambda name: None, ["One"])
    assert {tile(sheet, 0, column) for column in range(3)} == {WHITE}


def test_the_place_of_a_damaged_picture_stays_white(tmp_path: Path) -> None:
    picture(tmp_path / "reconstructions/a.png.png", "lime")
    path = tmp_path / "reconstructions/a.png.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + bytes(len(whole) - 70) + whole[-20:])
    sheet = contact_sheet([row("a.png")], tmp_path, red, [])
    assert [tile(sheet, 0, column) for column in range(2)] == [(255, 0, 0), WHITE]


def test_only_the_first_images_are_shown(tmp_path: Path) -> None:
    sheet = contact_sheet([row(f"{n:03}") for n in range(MAX_ROWS + 8)], tmp_path, red, [])
    assert sheet.height == 24 + MAX_ROWS * (TILE + MARGIN)


def test_a_run_without_psnr_has_captions_without_it(tmp_path: Path) -> None:
    without = row("a")
    del without["psnr"]
    sheets = [contact_sheet([each], tmp_path, red, []) for each in (without, row("a", psnr=None))]
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_without_a_good_image_the_sheet_is_empty(tmp_path: Path) -> None:
    assert contact_sheet([row("a", status="failed")], tmp_path, red, []).height == 24


@pytest.mark.parametrize("prompt", ["a cat " * 200, "W" * 5000, "子猫 🐈 \ud83d\n\n" * 50])
def test_a_long_caption_stays_in_its_place(tmp_path: Path, prompt: str) -> None:
    rows = [row("a", prompt=prompt, edit_prompt=prompt), row("b")]
    short = [row("a", prompt="", edit_prompt=None, psnr=None), row("b")]
    sheets = [np.asarray(contact_sheet(of, tmp_path, red, [])) for of in (rows, short)]
    top = 24 + TILE + MARGIN
    assert (sheets[0][top:] == sheets[1][top:]).all()
    assert (sheets[0][:, TEXT_WIDTH + MARGIN :] == sheets[1][:, TEXT_WIDTH + MARGIN :]).all()
