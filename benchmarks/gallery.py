"""Pictures of what the methods do: `python -m benchmarks.gallery` writes docs/gallery.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from PIL import Image
from torchvision.transforms.functional import to_tensor

from benchmarks.shared.grids import Samples, animals, draw_grid, samples
from benchmarks.shared.presets import CHECKOUT, load, only_editor, read_model, read_tiny
from renoise import (
    Anderson,
    Editor,
    InversionPipeline,
    Inverter,
    ReNoise,
    instantiate,
    mean_squared_error,
    psnr,
    sample,
)

EDITORS = {
    "PromptSwap": "prompt_swap",
    "PromptToPrompt,\nlocal blend": "prompt_to_prompt",
    "Pix2PixZero": "pix2pix_zero",
    "NegativePrompt": "negative_prompt",
}
"""Titles of the editing methods that are shown, and the files in configs/edits that have their settings."""
CURVE_STEPS, CALLS, SCENES_OF_CURVE = 10, (1, 2, 3, 5, 7, 10), 8
"""Of the curve: steps, network calls per step, and number of scenes."""
DOTS_PER_INCH = 150
WIDTH = 8.0
"""Inches of every picture."""


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery.

    Args:
        name: Of its file.
        title: Its heading in the page.
        text: Says what it shows.
        draw: Draws it.
    """

    name: str
    title: str
    text: str
    draw: Callable[[], Figure]


def edit_columns(scenes: Samples) -> dict[str, Sequence[Image.Image]]:
    """Returns originals, reconstructions, and the edits of every editor at the settings of its config."""
    columns: dict[str, Sequence[Image.Image]] = {"original": scenes.pictures}
    for title, name in EDITORS.items():
        model = read_model(f"configs/edits/{name}.yaml")
        inversion = load(model).invert(scenes.pictures, scenes.captions, keep_trajectory=True)
        columns.setdefault("reconstruction", inversion.reconstruct())
        columns[title] = inversion.edit(scenes.targets, editor=instantiate(Editor, only_editor(model)))
    return columns


def error_curves() -> dict[str, list[tuple[float, float]]]:
    """Returns (network calls, latent MSE) of renoising and of this project's solver on tiny-sd with ten steps."""
    pipeline, scenes = load({**read_tiny("sd14"), "num_inference_steps": CURVE_STEPS}), samples(0, SCENES_OF_CURVE)
    budgets = [CURVE_STEPS * calls for calls in CALLS]
    methods: dict[str, Callable[[int], Inverter]] = {
        "ReNoise (the paper)": lambda budget: ReNoise(budget // CURVE_STEPS - 1),
        "this project's solver": lambda budget: ReNoise(warm_start=True, solver=Anderson(), max_nfe=budget),
    }
    return {
        name: [(budget, _latent_error(pipeline, scenes, method(budget))) for budget in budgets]
        for name, method in methods.items()
    }


@torch.no_grad()
def _latent_error(pipeline: InversionPipeline, scenes: Samples, method: Inverter) -> float:
    pixels = torch.stack([to_tensor(picture) for picture in scenes.pictures])
    latents = pipeline.model.encode_images(pixels)
    inversion = pipeline.invert(pixels, scenes.captions, inversion=method)
    return float(mean_squared_error(sample(pipeline.model, inversion.inversion), latents).mean())


def draw_overview() -> Figure:
    """README's first picture: scenes, their edits, and the error over network calls."""
    scenes = samples(0, 3)
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[2.5, 1])
    left, right = parts
    draw_grid(left, edit_columns(scenes), animals(scenes))
    axis = right.subplots()
    for (name, curve), marker, color in zip(error_curves().items(), "os", ("#D55E00", "#0072B2"), strict=True):
        axis.plot(*zip(*curve, strict=True), marker=marker, markersize=4, linewidth=1.2, color=color, label=name)
    axis.set_yscale("log")
    axis.set_title("error of the reconstruction", fontsize=8)
    axis.set_xlabel("network calls per image", fontsize=7)
    axis.set_ylabel("mean squared error of the latents", fontsize=7)
    axis.tick_params(labelsize=6)
    axis.grid(linewidth=0.3)
    axis.legend(fontsize=6)
    return figure


def draw_editors() -> Figure:
    """Six more scenes and their edits."""
    scenes = samples(4, 10)
    figure = Figure(figsize=(WIDTH, 7.6), layout="constrained")
    draw_grid(figure, edit_columns(scenes), animals(scenes))
    return figure


def draw_turbo() -> Figure:
    """Reconstructions and edits of the four-step model by inversions from plain reversal to this project's preset."""
    scenes = samples(10, 14)
    paper, ours = load(read_tiny("sdxl_turbo")), load(read_tiny("sdxl_turbo_fast"))
    methods: dict[str, tuple[InversionPipeline, Inverter]] = {
        "plain\nreversal": (paper, ReNoise(0)),
        "ReNoise,\nK = 4": (paper, ReNoise(4)),
        "the paper's\npreset": (paper, paper.inversion),
        "sdxl_turbo\n_fast": (ours, ours.inversion),
    }
    reconstructed: dict[str, Sequence[Image.Image]] = {"original": scenes.pictures}
    edited: dict[str, Sequence[Image.Image]] = {}
    for name, (pipeline, method) in methods.items():
        inversion = pipeline.invert(scenes.pictures, scenes.captions, inversion=method)
        calls, rebuilt = int(inversion.inversion.nfe.max()), inversion.reconstruct()
        quality = _mean_psnr(scenes.pictures, rebuilt)
        reconstructed[f"{name}\n{calls} calls\n{quality:.1f} dB"] = rebuilt
        edited[f"edits over\n{name}"] = inversion.edit(scenes.targets, guidance_scale=1.0)
    figure = Figure(figsize=(WIDTH, 4.1), layout="constrained")
    draw_grid(figure, reconstructed | edited, animals(scenes))
    return figure


def _mean_psnr(originals: Sequence[Image.Image], others: Sequence[Image.Image]) -> float:
    first, second = (torch.stack([to_tensor(picture) for picture in each]) for each in (originals, others))
    return float(psnr(first, second).mean())


def draw_guidance() -> Figure:
    """One scene, edited with more and more guidance and at lower strengths."""
    scenes = samples(3, 4)
    inversion = load(read_tiny("sd_fast")).invert(scenes.pictures, scenes.captions, keep_trajectory=True)
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    values = {"guidance_scale": (1.0, 1.5, 2.0, 3.0, 5.0), "strength": (0.4, 0.5, 0.6, 0.8, 1.0)}
    parts: Any = figure.subfigures(2, 1)
    for part, (option, tried) in zip(parts, values.items(), strict=True):
        columns: dict[str, Sequence[Image.Image]] = {"original": scenes.pictures}
        for value in tried:
            edits = inversion.edit(scenes.targets, **{option: value})  # type: ignore[arg-type]
            columns[f"{option.removesuffix('_scale')} {value:g}"] = edits
        draw_grid(part, columns)
    return figure


PICTURES = (
    Picture(
        "overview",
        "Overview",
        "Inversion and edits on `tiny-sd`, and how the error of ten steps falls with the calls of the network.",
        draw_overview,
    ),
    Picture(
        "editors",
        "Editing methods",
        "Scenes that no model was trained on, inverted with one renoising iteration and edited by four methods at the "
        "settings of `configs/edits`. PromptToPrompt with local blend and Pix2PixZero follow the image most closely.",
        draw_editors,
    ),
    Picture(
        "turbo",
        "A model of four steps",
        "Plain reversal loses the image in four steps, and so its edits show another picture. Renoising finds it "
        "again. `sdxl_turbo_fast` is this project's preset.",
        draw_turbo,
    ),
    Picture(
        "guidance",
        "Guidance and strength",
        "PromptSwap over `sd_fast`: above, more guidance changes more of the image. Below, a lower strength starts "
        "from latents nearer to the image, and the edit keeps more of its place and size.",
        draw_guidance,
    ),
)


def write_page(path: Path, pictures: Sequence[Picture]) -> None:
    """Writes the page that shows pictures of the folder beside it.

    Args:
        path: The page. Its pictures are in a folder of its name.
        pictures: What it shows.
    """
    parts = ["# Gallery", "What the shipped models show, by one command:", "```bash\npython -m benchmarks.gallery\n```"]
    for picture in pictures:
        parts += [f"## {picture.title}", picture.text, f"![{picture.title}]({path.stem}/{picture.name}.jpg)"]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(folder: Path = CHECKOUT / "docs", names: Sequence[str] | None = None) -> None:
    """Draws the pictures.

    Args:
        folder: Where `gallery.md` and `gallery/` are written.
        names: Pictures to draw. Null is all.
    """
    (folder / "gallery").mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        if names is None or picture.name in names:
            save(picture.draw(), folder / "gallery" / f"{picture.name}.jpg")
    write_page(folder / "gallery.md", PICTURES)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a JPEG file."""
    figure.savefig(path, dpi=DOTS_PER_INCH, pil_kwargs={"quality": 90, "optimize": True})


if __name__ == "__main__":
    auto_cli(main)
