"""Draws the figures of docs/how_it_works.md and docs/choose.md: `python docs/scripts/figures.py`, in a minute.

`iteration.png` shows the estimates of each step of the four-step model, `reconstructions.png` what they are worth, and
`strength.jpg` what guidance and strength do to an edit by the 50-step model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import renoise

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURE = REPOSITORY / "data/images/scenes/02-fox.png"
PROMPT = "a fox on a dotted pink background"
ITERATIONS = (0, 1, 2, 4, 9)
GUIDANCES = (1, 1.5, 3)
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1)
SIDE = 128
"""Pixels of a picture in `strength.jpg`."""
COLORS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7")


class Recorder(renoise.Solver):
    """Renoises plainly, and keeps every estimate of every step."""

    def __init__(self) -> None:
        self.estimates: dict[float, list[torch.Tensor]] = {}
        self.residuals: dict[float, list[float]] = {}

    def solve(
        self,
        equation: renoise.StepEquation,
        weights: Sequence[float],
        tolerance: float | None = None,
        stop: object = None,
    ) -> renoise.Solution:
        """Renoises once for each weight; see `renoise.Solver.solve`."""
        index = torch.arange(len(equation.previous))
        path, residuals = [equation.start], []
        for _ in weights:
            renoised = equation.renoise(equation.predict(path[-1], index), path[-1], index)
            residuals.append(float(equation.residual(path[-1], renoised, index)))
            path.append(renoised)
        self.estimates[equation.step.timestep] = path
        self.residuals[equation.step.timestep] = residuals
        return renoise.Solution(path[-1], torch.full_like(index, len(weights)), torch.tensor(residuals[-1:]), None)


def main() -> None:
    """Draws the figures."""
    model = renoise.load(REPOSITORY / "data/models/tiny-sdxl-turbo", preset="sdxl_turbo")
    recorder = Recorder()
    model.invert(PICTURE, PROMPT, inversion=renoise.ReNoise(iterations=29, solver=recorder))
    draw_iteration(recorder, REPOSITORY / "docs/iteration.png")
    draw_reconstructions(model, REPOSITORY / "docs/reconstructions.png")
    draw_strengths(REPOSITORY / "docs/strength.jpg")


def draw_iteration(recorder: Recorder, path: Path) -> None:
    """Draws the path of the first step's estimates, and the residuals of all steps."""
    figure = Figure(figsize=(8, 3.4), dpi=130, layout="constrained")
    plane, curves = figure.subplots(1, 2)
    timestep = max(recorder.estimates)
    points = _in_plane(recorder.estimates[timestep])
    plane.plot(*points[:10].T, color=COLORS[2], marker="o", markersize=4, linewidth=1)
    for k, point in enumerate(points[:5]):
        name = "z⁰ = z_{t−1}" if k == 0 else f"z{'¹²³⁴'[k - 1]}"
        plane.annotate(name, point, xytext=(4, 6), textcoords="offset points")
    plane.plot(*points[-1], color="black", marker="*", markersize=12, linestyle="none")
    plane.annotate("z_t = G(z_t)", points[-1], xytext=(-8, 6), textcoords="offset points", ha="right")
    plane.set_title(f"Estimates of the noisiest step (t = {timestep:.0f})", fontsize=10)
    plane.set_xlabel("first principal direction")
    plane.set_ylabel("second")
    plane.margins(0.2)
    for color, (t, residuals) in zip(COLORS, sorted(recorder.residuals.items()), strict=True):
        curves.semilogy(range(1, 11), residuals[:10], color=color, marker="o", markersize=3, label=f"t = {t:.0f}")
    curves.set_title("Residual of each step", fontsize=10)
    curves.set_xlabel("network calls of the step")
    curves.grid(linewidth=0.3)
    curves.legend()
    figure.savefig(path, metadata={"Software": None})  # matplotlib's version would change the bytes


def draw_reconstructions(model: renoise.InversionPipeline, path: Path) -> None:
    """Draws the picture and its reconstructions after K renoising iterations."""
    original = Image.open(PICTURE).convert("RGB")
    panels = [("original", original)]
    for iterations in ITERATIONS:
        (rebuilt,) = model.invert(PICTURE, PROMPT, inversion=renoise.ReNoise(iterations=iterations)).reconstruct()
        panels.append((f"K = {iterations}\n{_psnr(original, rebuilt):.1f} dB", rebuilt))
    figure = Figure(figsize=(8, 1.8), dpi=110, layout="constrained")
    for axis, (title, picture) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.savefig(path, metadata={"Software": None})


def draw_strengths(path: Path) -> None:
    """Draws one picture's edits, a row for each guidance and a column for each strength."""
    model = renoise.load(REPOSITORY / "data/models/tiny-sd", preset="sd_fast")
    cat = REPOSITORY / "data/images/scenes/00-cat.png"
    inverted = model.invert(cat, "a cat on a checkered green background", keep_trajectory=True)
    sheet = Image.new("RGB", (SIDE * len(STRENGTHS), SIDE * len(GUIDANCES)))
    for row, guidance_scale in enumerate(GUIDANCES):
        for column, strength in enumerate(STRENGTHS):
            target = "a dog on a checkered green background"
            (edited,) = inverted.edit(target, guidance_scale=guidance_scale, strength=strength)
            sheet.paste(edited.resize((SIDE, SIDE)), (SIDE * column, SIDE * row))
    sheet.save(path, quality=90)


def _in_plane(estimates: Sequence[torch.Tensor]) -> np.ndarray:
    """Returns latents in the plane of their two principal directions around the last one, [n, 2]."""
    rows = torch.stack([estimate.flatten() for estimate in estimates]).double().numpy()
    rows -= rows[-1]
    directions = np.linalg.svd(rows, full_matrices=False)[2][:2]
    plane: np.ndarray = rows @ directions.T
    return plane


def _psnr(original: Image.Image, rebuilt: Image.Image) -> float:
    """Returns the PSNR of two pictures in dB."""
    difference = (np.asarray(original, float) - np.asarray(rebuilt, float)) / 255
    return float(-10 * np.log10(np.square(difference).mean()))


if __name__ == "__main__":
    main()
