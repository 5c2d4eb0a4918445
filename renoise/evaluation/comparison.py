"""`comparison.png`: the methods side by side: each reconstruction, a part of it enlarged, and its edits."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F
from torchvision.transforms.functional import to_tensor

from renoise.data.files import UnreadableImageError
from renoise.evaluation.runs import MethodRun
from renoise.outputs.files import RECONSTRUCTION, read_output
from renoise.outputs.images import to_pil, to_png
from renoise.utils.files import write_atomically

LEAST_SIDE = 160
"""Pictures smaller than this many pixels are enlarged by a whole number."""
GAP, FONT_SIZE = 8, 15
MAX_IMAGES = 4
ZOOM = 4
"""An enlarged part has this share of the picture's sides."""
CHARACTERS = 24
"""Letters of a heading in one line, for a picture of `LEAST_SIDE` pixels."""


class Line(NamedTuple):
    """A line of the sheet.

    Args:
        name: "reconstruction" or the editor.
        pictures: Of the original and of each method. None leaves a place empty.
        text: Stands in the place of the original.
    """

    name: str
    pictures: list[Image.Image | None]
    text: str


def draw_comparison(path: Path, runs: Sequence[MethodRun]) -> None:
    """Writes the first images of the data set that every method inverted, `MAX_IMAGES` at most.

    A column is a method, and the first is the original. Below an image's reconstructions is the part in which they
    differ most from the original, enlarged and marked there. Then comes a line for each editor, with the text of the
    edit.

    Args:
        path: The PNG file.
        runs: Of all methods.
    """
    done = [{row["file_name"]: row for row in run.rows if row["status"] == "ok"} for run in runs]
    names = [record.file_name for record in runs[0].data.records]
    common = [name for name in names if all(name in rows for rows in done)][:MAX_IMAGES]
    editors = {editor.name: editor.curve for run in runs for editor in run.editors.values()}
    lines: list[Line] = []
    for name in common:
        for result in (RECONSTRUCTION, *_middle_of_each_curve(editors)):
            pictures = [_picture(run, rows[name], result) for run, rows in zip(runs, done, strict=True)]
            if any(pictures):
                is_edit = result != RECONSTRUCTION
                text = done[0][name]["edit_prompt"] or "" if is_edit else ""
                line = Line(result, [None if is_edit else _original(runs[0], name), *pictures], text)
                lines += [line] if is_edit else _with_zoom(line)
    if lines:
        write_atomically(path, to_png(_sheet(["original", *(run.method.name for run in runs)], lines)))


def _sheet(titles: Sequence[str], lines: Sequence[Line]) -> Image.Image:
    """Draws lines of pictures under headings, each line named at its left."""
    sizes = [picture.size for line in lines for picture in line.pictures if picture]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    scale = max(1, -(-LEAST_SIDE // max(width, height)))
    width, height = scale * width, scale * height
    font = ImageFont.load_default(FONT_SIZE)
    letters = max(8, CHARACTERS * width // (LEAST_SIDE + 40))
    headings = [textwrap.fill(title, letters) for title in titles]
    top = GAP + (FONT_SIZE + 4) * (1 + max(heading.count("\n") for heading in headings))
    left = GAP + max(int(font.getlength(line.name)) for line in lines) + GAP
    sheet = Image.new("RGB", (left + (width + GAP) * len(titles), top + (height + GAP) * len(lines)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        draw.multiline_text((left + column * (width + GAP), GAP // 2), heading, "black", font)
    for number, line in enumerate(lines):
        y = top + number * (height + GAP)
        draw.text((GAP, y + height // 2), line.name, "black", font)
        draw.multiline_text((left, y), textwrap.fill(line.text, letters), "black", font)
        for column, picture in enumerate(line.pictures):
            if picture:
                enlarged = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)
                sheet.paste(enlarged, (left + column * (width + GAP), y))
    return sheet


def _with_zoom(line: Line) -> list[Line]:
    """Returns a line of an original and its reconstructions, and below it their parts that differ most, enlarged."""
    original, *reconstructions = line.pictures
    if original is None or any(picture and picture.size != original.size for picture in reconstructions):
        return [line]
    box = _most_different(original, [picture for picture in reconstructions if picture])
    size = original.size
    parts = [picture and picture.crop(box).resize(size, Image.Resampling.NEAREST) for picture in line.pictures]
    marked = original.copy()
    ImageDraw.Draw(marked).rectangle(box, outline="red")
    return [line._replace(pictures=[marked, *reconstructions]), Line("enlarged", parts, "")]


def _most_different(original: Image.Image, pictures: Sequence[Image.Image]) -> tuple[int, int, int, int]:
    """Returns the box of 1 / `ZOOM` of the sides in which pictures of one size differ most from the original."""
    errors = torch.stack([to_tensor(picture) - to_tensor(original) for picture in pictures]).square().mean((0, 1))
    height, width = (max(1, side // ZOOM) for side in errors.shape)
    sums = F.avg_pool2d(errors[None], (height, width), stride=1)[0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return left, top, left + width, top + height


def _middle_of_each_curve(editors: Mapping[str, str]) -> list[str]:
    """Returns the names of the editors that are shown: of those that differ in one option, the one in the middle."""
    curves: dict[str, list[str]] = {}
    for name, curve in editors.items():
        curves.setdefault(curve, []).append(name)
    return [names[(len(names) - 1) // 2] for names in curves.values()]


def _picture(run: MethodRun, row: Mapping[str, Any], result: str) -> Image.Image | None:
    """Returns a reconstruction or an edit by name. None where the method has none."""
    folders = {editor.name: folder for folder, editor in run.editors.items()} | {RECONSTRUCTION: RECONSTRUCTION}
    content = read_output(run.folder, row, folders[result]) if result in folders else None
    return None if content is None else Image.open(io.BytesIO(content)).convert("RGB")


def _original(run: MethodRun, name: str) -> Image.Image | None:
    try:
        return to_pil(run.data.original(name))
    except UnreadableImageError:
        return None
