"""`contact_sheet.png`: original, reconstruction and edits, one row per image."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from renoise.outputs.files import RECONSTRUCTION, read_output

TILE, MARGIN, TEXT_WIDTH, HEADER = 128, 6, 250, 24
"""Pixels: side of a picture, gap between pictures, width of the captions, height of the titles."""
MAX_ROWS = 32


def contact_sheet(
    rows: list[dict[str, Any]], folder: Path, original: Callable[[str], Image.Image | None], editors: list[str]
) -> Image.Image:
    """Draws the first images by name that did not fail, `MAX_ROWS` at most.

    Args:
        rows: Rows of the manifest.
        folder: The output folder, with the pictures.
        original: Returns the prepared original of a file name, at any size, or None where it is gone.
        editors: Names of the editors' folders.
    """
    shown = sorted((row for row in rows if row["status"] == "ok"), key=lambda row: str(row["file_name"]))[:MAX_ROWS]
    titles = ["original", "reconstruction", *editors]
    sheet = Image.new("RGB", (_left(len(titles)), _top(len(shown))), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((_left(column), 4), title, "black", font)
    for line, row in enumerate(shown):
        caption = Image.new("RGB", (TEXT_WIDTH, TILE), "white")  # a picture of its own, which cuts off a long text
        ImageDraw.Draw(caption).multiline_text((0, 0), _caption(row), "black", font)
        sheet.paste(caption, (MARGIN, _top(line)))
        outputs = [_picture(read_output(folder, row, kind)) for kind in (RECONSTRUCTION, *editors)]
        for column, picture in enumerate([original(row["file_name"]), *outputs]):
            if picture is not None:
                sheet.paste(tile(picture), (_left(column), _top(line)))
    return sheet


def tile(picture: Image.Image) -> Image.Image:
    """Returns a picture at the size at which the sheet shows it."""
    return ImageOps.pad(picture, (TILE, TILE), Image.Resampling.BICUBIC, color="white")


def _left(column: int) -> int:
    return TEXT_WIDTH + MARGIN + (TILE + MARGIN) * column


def _top(line: int) -> int:
    return HEADER + (TILE + MARGIN) * line


def _picture(content: bytes | None) -> Image.Image | None:
    if content is None:
        return None
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError):  # damaged in the middle
        return None


def _caption(row: dict[str, Any]) -> str:
    parts = [row["file_name"], f"“{row['prompt']}”"]
    if row["edit_prompt"]:
        parts.append(f"to “{row['edit_prompt']}”")
    if row.get("psnr") is not None:
        parts.append(f"{row['psnr']:.2f} dB")
    return "\n".join("\n".join(textwrap.wrap(part, 36)) for part in parts)
