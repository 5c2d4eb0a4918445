"""Measures edits as published tables do: from the files that a run has written, with values of 8 bits."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from renoise.data import ImagesDataModule
from renoise.data.files import UnreadableImageError
from renoise.errors import InputError, InputWarning
from renoise.evaluation.runs import MethodRun
from renoise.metrics import EditComparison, EditMetric
from renoise.outputs.files import read_output
from renoise.outputs.image_result import finite
from renoise.utils.jsonl import JsonLines
from renoise.utils.progress import track

Row = dict[str, Any]


class EditRows:
    """The measured edits of one method: a row for each image and editor. A run that was stopped continues from them.

    Args:
        path: The file; it ends in .jsonl.
        metrics: What to measure.
        settings: The metrics with their options. Rows of others are measured again.
    """

    def __init__(self, path: Path, metrics: Mapping[str, EditMetric], settings: Sequence[Any]) -> None:
        self.file, self.metrics = JsonLines(path), metrics
        self.settings = json.dumps(settings, sort_keys=True)

    def measure(self, run: MethodRun) -> list[Row]:
        """Returns the row of every edit, in the data set's order. Measures those that have none.

        Args:
            run: The method that made the edits.
        """
        self.file.repair()
        known = {
            (row["file_name"], row["editor"]): row for _, _, line in self.file.lines() for row in [json.loads(line)]
        }
        found: list[Row] = []
        for row in track(run.rows, f"measuring edits of {run.method.name}"):
            edits = dict(_edits(run, row))
            keys = {editor: self._key(content) for editor, content in edits.items()}
            new = [editor for editor in edits if known.get((row["file_name"], editor), {}).get("key") != keys[editor]]
            for measured in self._measured(run, row, {editor: edits[editor] for editor in new}):
                measured["key"] = keys[measured["editor"]]
                self.file.append([measured])
                known[row["file_name"], measured["editor"]] = measured
            found += [known[row["file_name"], editor] for editor in edits if (row["file_name"], editor) in known]
        return found

    def _key(self, content: bytes) -> str:
        """Returns what a row depends on, in short: the picture and the metrics."""
        return hashlib.sha256(content + self.settings.encode()).hexdigest()[:16]

    @torch.no_grad()
    def _measured(self, run: MethodRun, row: Row, edits: Mapping[str, bytes]) -> Iterator[Row]:
        """Yields the rows of one image's edits, all of which are measured together."""
        if not edits:
            return
        count, name = len(edits), row["file_name"]
        try:
            original = _eight_bits(run.data.original(name)).to(run.device)
        except UnreadableImageError as error:
            warnings.warn(f"{error}; its edits are not measured", InputWarning, stacklevel=2)
            return
        pictures = torch.stack([_pixels(content) for content in edits.values()]).to(run.device)
        mask = mask_of(run.data, name)
        comparison = EditComparison(
            original.expand_as(pictures),
            pictures,
            [row["prompt"] or ""] * count,
            [row["edit_prompt"] or ""] * count,
            None if mask is None else mask.to(run.device).expand(count, -1, -1),
            [name] * count,
        )
        columns = {
            metric: [None] * count if mask is None and each.uses_mask else each(comparison).tolist()
            for metric, each in self.metrics.items()
        }
        for position, editor in enumerate(edits):
            values = {metric: column[position] for metric, column in columns.items()}
            yield {"file_name": name, "editor": editor} | {
                metric: None if value is None else finite(value) for metric, value in values.items()
            }


def mask_of(data: ImagesDataModule, name: str) -> torch.Tensor | None:
    """Returns the mask of an image, bool [H, W]. None where the data set has none, or it cannot be read.

    Args:
        data: The data set.
        name: Name of the image.
    """
    try:
        return data.mask(name)
    except InputError as error:
        warnings.warn(f"{error}; its columns of the background are empty", InputWarning, stacklevel=2)
        return None


def usable(metrics: Mapping[str, EditMetric], run: MethodRun) -> dict[str, EditMetric]:
    """Returns the metrics that the data set has everything for. Warns of the others.

    Args:
        metrics: By name.
        run: A method that has inverted the data set.
    """
    rows = run.rows
    lacks_masks = all(mask_of(run.data, row["file_name"]) is None for row in rows)
    lacks_prompts = not any(row["edit_prompt"] for row in rows) or not any(row["prompt"] for row in rows)
    missing = {
        "masks": [name for name, metric in metrics.items() if metric.uses_mask and lacks_masks],
        "prompts": [name for name, metric in metrics.items() if metric.uses_prompts and lacks_prompts],
    }
    for what, names in missing.items():
        if names:
            text = f"the data set has no {what}, so these columns are left out: {', '.join(names)}"
            warnings.warn(text, InputWarning, stacklevel=2)
    left_out = {name for names in missing.values() for name in names}
    return {name: metric for name, metric in metrics.items() if name not in left_out}


def _edits(run: MethodRun, row: Row) -> Iterator[tuple[str, bytes]]:
    """Yields the folders of the editors that edited an image, each with the content of its PNG file."""
    for editor in run.editors:
        if row["edits"].get(editor) == "ok":
            content = read_output(run.folder, row, editor)
            if content is not None:
                yield editor, content


def _pixels(content: bytes) -> torch.Tensor:
    """Returns a PNG file as float32 [3, H, W] in [0, 1]."""
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def _eight_bits(pixels: torch.Tensor) -> torch.Tensor:
    """Returns an image with its values rounded to multiples of 1/255, as a PNG file has them."""
    return (255 * pixels.clamp(0, 1)).round() / 255
