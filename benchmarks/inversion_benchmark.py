"""What this implementation claims, measured in one run: `python -m benchmarks.inversion_benchmark`.

Prints accuracy over renoising iterations on unseen scenes, the residual of a fixed point, the cost of inversion against
bare network calls, and peak memory over more and more images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.evaluation import UNSEEN_SEED, Evaluation, evaluate, images_of, prompts_of
from renoise.core.renoise import AveragingWeights, Renoising
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inverter
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from tiny_models.scenes import Scene, random_scenes

TABLE_1 = AveragingWeights(below=[0.5, 0.5], above=[0.0, 1.0])
"""The weights of the paper's Table 1 for Stable Diffusion."""
SETTINGS: tuple[tuple[int, int, AveragingWeights | None], ...] = (
    *((10, iterations, None) for iterations in (0, 1, 4, 9)),
    *((50, iterations, weights) for iterations, weights in ((0, None), (1, TABLE_1), (4, None))),
)


def accuracy(
    model: DiffusionModel, scenes: Sequence[Scene], steps: int, renoising: Renoising, batch_size: int = 64
) -> Evaluation:
    """The round trip of scenes under the checkpoint's own sampler; see `evaluate`."""
    inverter = Inverter(model, Schedule.from_scheduler(model.scheduler, steps), renoising)
    return evaluate(inverter, scenes, batch_size=batch_size)


def accuracy_table(model: DiffusionModel, images: int) -> Table:
    """PSNR and latent MSE for each setting of the paper's comparison, with the share of K = 0's error that is left."""
    table = Table(title=f"Round trip of {images} unseen scenes, guidance 1, float32")
    for name in ("steps", "K", "weights", "PSNR (dB)", "latent MSE", "of K=0's", "rows", "std of z_T"):
        table.add_column(name, justify="right")
    scenes = random_scenes(images, UNSEEN_SEED)
    baseline = 1.0
    for steps, iterations, weights in SETTINGS:
        found = accuracy(model, scenes, steps, Renoising(iterations, weights))
        baseline = found.latent_mse if iterations == 0 else baseline
        table.add_row(
            *(f"{steps}", f"{iterations}", "Table 1" if weights else "last"),
            *(f"{found.psnr:.2f}", f"{found.latent_mse:.2e}"),
            *(f"1/{baseline / found.latent_mse:.1f}", f"{found.nfe:.0f}", f"{found.latent_std:.3f}"),
        )
        table.caption = f"The autoencoder's own round trip: {found.psnr_vae:.2f} dB"
    return table


def fixed_point(model: DiffusionModel, images: int = 2) -> float:
    """Latent MSE at K = 30 and 50 steps in float64: what is left of a solved equation is rounding."""
    scenes = random_scenes(images, UNSEEN_SEED)
    return accuracy(model.double(), scenes, 50, Renoising(30)).latent_mse


@torch.no_grad()
def overhead(model: DiffusionModel, batch_size: int = 16, steps: int = 10, repeats: int = 5) -> float:
    """Seconds of an inversion over those of as many bare UNet calls: the median of interleaved repeats."""
    schedule = Schedule.from_scheduler(model.scheduler, steps)
    inverter = Inverter(model, schedule, Renoising(1))
    scenes = random_scenes(batch_size, UNSEEN_SEED)
    latents = model.encode_images(images_of(scenes))
    conditioning, names = prompts_of(model, scenes)
    ratios = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        inverter.invert(latents, conditioning, names)
        inverted = time.perf_counter()
        for step in reversed(schedule):
            for _ in range(2):
                model.unet(latents, step.timestep, conditioning.prompt_embeds, return_dict=False)
        ratios.append((inverted - started) / (time.perf_counter() - inverted))
    return sorted(ratios[1:])[repeats // 2]  # the first warms up


def peak_memory(checkpoint: str, images: int, more_options: Mapping[str, Any] | None = None) -> int:
    """Peak resident bytes of `predict` over so many images, in a process of its own.

    Every image shall become a thing that no other one does, for editors that the options name.

    Args:
        checkpoint: a hub id or a folder in diffusers layout.
        images: how many scenes to draw.
        more_options: of the command line, by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "images")
        root.mkdir()
        with (root / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
            for number, scene in enumerate(random_scenes(images, UNSEEN_SEED)):
                name, other = f"{number:04}.png", replace(scene, subject=f"thing{number}")
                scene.draw().save(root / name)
                row = {"file_name": name, "text": scene.caption, "edit_text": other.caption}
                metadata.write(json.dumps(row) + "\n")
        options = {
            "model.checkpoint": checkpoint,
            "model.num_inference_steps": 2,
            "model.renoise_iterations": 0,
            "data.root": root,
            "data.resolution": 64,
            "data.batch_size": 16,
            "trainer.default_root_dir": Path(folder, "out"),
            "trainer.enable_progress_bar": False,
            **(more_options or {}),
        }
        command = [sys.executable, "-c", "from renoise.cli import main; main()", "predict"]
        command += [f"--{name}={value}" for name, value in options.items()]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise RuntimeError(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(checkpoint: str = "data/models/tiny-sd", images: int = 64) -> None:
    """Prints every measurement.

    Args:
        checkpoint: a hub id or a folder in diffusers layout.
        images: unseen scenes to measure accuracy on, and memory, there on eight times as many too.
    """
    console = Console()
    model = load_model(checkpoint)
    console.print(accuracy_table(model, images))
    ratio = overhead(model)
    console.print(f"inversion of a batch of 16 over as many bare UNet calls: {ratio:.3f} x")
    small, large = peak_memory(checkpoint, images), peak_memory(checkpoint, 8 * images)
    console.print(
        f"peak memory: {small / 2**20:.0f} MiB over {images} images, {large / 2**20:.0f} MiB over {8 * images}"
    )
    if images >= 32:  # it takes as long as all else together
        console.print(f"latent MSE at K=30, 50 steps, float64: {fixed_point(model):.1e}")


if __name__ == "__main__":
    auto_cli(main)
