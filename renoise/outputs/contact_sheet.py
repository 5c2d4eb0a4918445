"""`contact_sheet.png`: original | reconstruction | edits, a row per image."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from renoise.outputs.files import RECONSTRUCTION, read_output

TILE, MARGIN, TEXT_WIDTH = 128, 6, 250
MOST_ROWS = 32
"""A sheet is for looking at; the first images by name stand for the rest."""


def contact_sheet(
    rows: list[dict[str, Any]], folder: Path, original: Callable[[str], Image.Image | None], editors: list[str]
) -> Image.Image:
    """Draws the sheet of the images that did not fail.

    Args:
        rows: of the manifest.
        folder: the run's output, which the pictures are read from.
        original: gives the prepared original of a file name, None where there is none any more.
        editors: names of the editors' folders.
    """
    shown = sorted((row for row in rows if row["status"] == "ok"), key=lambda row: str(row["file_name"]))[:MOST_ROWS]
    titles = ["original", "reconstruction", *editors]
    left = TEXT_WIDTH + MARGIN
    size = (left + (TILE + MARGIN) * len(titles), 24 + (TILE + MARGIN) * len(shown))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((left + (TILE + MARGIN) * column, 4), title, "black", font)
    for line, row in enumerate(shown):
        top = 24 + (TILE + MARGIN) * line
        caption = Image.new("RGB", (TEXT_WIDTH, TILE), "white")  # its edges keep a long text out of the next row
        ImageDraw.Draw(caption).multiline_text((0, 0), _caption(row), "black", font)
        sheet.paste(caption, (MARGIN, top))
        name = row["file_name"]
        outputs = [_picture(read_output(folder, row, kind)) for kind in (RECONSTRUCTION, *editors)]
        for column, picture in enumerate([original(name), *outputs]):
            if picture is not None:
                tile = ImageOps.pad(picture, (TILE, TILE), Image.Resampling.BICUBIC, color="white")
                sheet.paste(tile, (left + (TILE + MARGIN) * column, top))
    return sheet


def _picture(content: bytes | None) -> Image.Image | None:
    if content is None:
        return None
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert("RGB")


def _caption(row: dict[str, Any]) -> str:
    parts = [row["file_name"], f"“{row['prompt']}”"]
    parts += [f"to “{row['edit_prompt']}”"] if row["edit_prompt"] else []
    parts += [f"{row['psnr']:.2f} dB"] if row["psnr"] is not None else []
    return "\n".join("\n".join(textwrap.wrap(part, 36)) for part in parts)
