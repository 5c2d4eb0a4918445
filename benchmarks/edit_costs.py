"""What editing methods cost beyond their network calls, and what memory they take; see `benchmarks.edit_benchmark`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.edit_evaluation import requests_of
from benchmarks.edit_settings import GUIDANCE, Suite
from benchmarks.inversion_benchmark import peak_memory
from benchmarks.network_calls import overhead
from renoise.core.schedule import Schedule
from renoise.models.base import DiffusionModel
from tiny_models.scenes import Scene

GUIDED = {"model.editors": "[Pix2PixZero]"}
"""Options under which cross-attention guidance edits every image, each along a direction of its own."""
GUIDED_IMAGES = (64, 512)


def overheads(
    suite: Suite,
    model: DiffusionModel,
    schedule: Schedule,
    scenes: Sequence[Scene],
    targets: Sequence[Scene],
    repeats: int = 5,
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Seconds of each editor over those of its bare network calls, at the lowest guidance and the highest.

    What is not a call of the UNet counts, the autoencoder and the text encoder among it; see `overhead`.
    """
    setting = replace(next(iter(suite.inversions.values())), per_guidance=False)
    inversion, requests = setting.invert(model, schedule, scenes), requests_of(scenes, targets)
    for name, editor in suite.editor_settings().items():
        edits = [partial(editor.make(guidance).edit, model, inversion, requests) for guidance in _ends()]
        low, high = (overhead(model.unet, edit, repeats) for edit in edits)
        yield name, (low, high)


def overhead_table(ratios: dict[str, tuple[float, float]]) -> str:
    """One line per editor, in Markdown."""
    low, high = _ends()
    head = f"| editing method | at guidance {low:g} | at guidance {high:g} |\n|---|---|---|\n"
    return head + "".join(f"| {name} | {first:.3f} x | {last:.3f} x |\n" for name, (first, last) in ratios.items())


def guided_memory(checkpoint: str) -> str:
    """What cross-attention guidance takes at most over few images and over many, as a sentence."""
    found = [f"{peak_memory(checkpoint, images, GUIDED) / 2**20:.0f} MiB over {images}" for images in GUIDED_IMAGES]
    return f"Peak memory of a run with Pix2PixZero: {found[0]} images, {found[1]}.\n"


def _ends() -> tuple[float, float]:
    return min(GUIDANCE), max(GUIDANCE)
