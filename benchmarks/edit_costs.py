"""What editing methods cost besides their network calls, and how much memory they take; see `benchmarks.edits`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from benchmarks.edit_suites import Suite
from benchmarks.shared.network_calls import overhead
from benchmarks.shared.runs import peak_memory
from benchmarks.shared.scenes import invert_scenes, swap_requests
from benchmarks.shared.tables import markdown
from renoise import InversionPipeline
from tiny_models.scenes import Scene

GUIDED = {"model.editors": "[Pix2PixZero]"}
"""Options that edit every image by cross-attention guidance, each in a direction of its own."""
GUIDED_IMAGES = (64, 512)


def overheads(
    suite: Suite,
    pipeline: InversionPipeline,
    scenes: Sequence[Scene],
    targets: Sequence[Scene],
    guidance_scales: Sequence[float],
) -> pd.DataFrame:
    """Returns the time of each editor divided by the time of its network calls alone, see `overhead`.

    Args:
        suite: The editors. Scenes are inverted by the first inversion method.
        pipeline: Model and sampler of the suite.
        scenes: Scenes to edit.
        targets: The same scenes with other animals.
        guidance_scales: Guidances of the edits.

    Returns:
        A row per editor, a column per guidance.
    """
    first = next(iter(suite.inversions.values()))
    inversion = invert_scenes(pipeline, scenes, first.method, keep_trajectory=True)
    requests, rows = swap_requests(scenes, targets), []
    for name, editor in suite.editors.items():
        row: dict[str, str | float] = {"editing method": name}
        for guidance in guidance_scales:
            edit = partial(editor.make(guidance).edit, pipeline.model, inversion, requests)
            row[f"at guidance {guidance:g}"] = overhead(pipeline.model.network, edit)
        rows.append(row)
    return pd.DataFrame(rows)


def overhead_table(ratios: pd.DataFrame) -> str:
    """Returns the result of `overheads` in Markdown."""
    cells = ratios.map(lambda value: value if isinstance(value, str) else f"{value:.3f} x")
    return markdown(cells, {})


def guided_memory(checkpoint: str) -> str:
    """Returns a sentence: peak memory of cross-attention guidance over few images and over many."""
    few, many = (f"{peak_memory(checkpoint, images, GUIDED) / 2**20:.0f} MiB over {images}" for images in GUIDED_IMAGES)
    return f"Peak memory of a run with Pix2PixZero: {few} images, {many}.\n"
