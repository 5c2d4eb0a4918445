"""What inversion is claimed to do, measured: `python -m benchmarks.inversion` prints it.

Accuracy over renoising iterations, the residual of a fixed point, the time of an inversion against its network calls
alone, and peak memory over more and more images.
"""

from __future__ import annotations

import pandas as pd
from jsonargparse import auto_cli

import renoise
from benchmarks.shared.evaluation import RoundTrip, evaluate_round_trip
from benchmarks.shared.network_calls import overhead
from benchmarks.shared.runs import peak_memory
from benchmarks.shared.scenes import encode, invert_scenes, prompts_of, unseen_scenes
from benchmarks.shared.tables import markdown
from renoise import AveragingWeights, ReNoise

TABLE_1 = AveragingWeights(below=[0.5, 0.5], above=[1.0])
"""The paper's weights for Stable Diffusion (supplement, Table 1)."""
SETTINGS: tuple[tuple[int, int, AveragingWeights | None], ...] = (
    (10, 0, None),
    (10, 1, None),
    (10, 4, None),
    (10, 9, None),
    (50, 0, None),
    (50, 1, TABLE_1),
    (50, 4, None),
)
"""Steps, K and averaging weights. K = 0 comes first for each number of steps."""
FORMATS = {"PSNR (dB)": ".2f", "latent MSE": ".2e", "NFE": ".0f", "std of z_T": ".3f"}


def accuracy(checkpoint: str, steps: int, method: ReNoise, images: int, double: bool = False) -> RoundTrip:
    """Returns the round trip of unseen scenes under the checkpoint's own sampler, in float32 or float64."""
    pipeline, scenes = renoise.load(checkpoint, num_inference_steps=steps), unseen_scenes(images)
    if double:
        pipeline.model.double()
    return evaluate_round_trip(pipeline.model, invert_scenes(pipeline, scenes, method), scenes)


def accuracy_table(checkpoint: str, images: int) -> str:
    """Returns PSNR and latent MSE of each setting in Markdown, with the share of K = 0's error that is left."""
    rows, baseline = [], 1.0
    for steps, iterations, weights in SETTINGS:
        found = accuracy(checkpoint, steps, ReNoise(iterations, weights), images)
        baseline = found.latent_mse if iterations == 0 else baseline
        row = {
            "steps": steps,
            "K": iterations,
            "averaging": "Table 1" if weights else "last",
            "PSNR (dB)": found.psnr,
            "latent MSE": found.latent_mse,
            "of K = 0's": f"1/{baseline / found.latent_mse:.1f}",
            "NFE": found.nfe,
            "std of z_T": found.latent_std,
        }
        rows.append(row)
    ceiling = f"The autoencoder's own round trip: {found.psnr_vae:.2f} dB."
    return f"{markdown(pd.DataFrame(rows), FORMATS)}\n{ceiling}\n"


def inversion_overhead(checkpoint: str, batch_size: int = 16, steps: int = 10) -> float:
    """Returns the time of inverting a batch with K = 1 divided by the time of its network calls alone."""
    pipeline = renoise.load(checkpoint, num_inference_steps=steps, inversion=ReNoise(1))
    scenes = unseen_scenes(batch_size)
    latents, (conditioning, names) = encode(pipeline.model, scenes), prompts_of(pipeline.model, scenes)
    return overhead(pipeline.model.network, lambda: pipeline.invert_latents(latents, conditioning, names))


def main(checkpoint: str = "data/models/tiny-sd", images: int = 64) -> None:
    """Prints every measurement.

    Args:
        checkpoint: A hub id or a folder in diffusers layout.
        images: Number of unseen scenes. Memory is measured on eight times as many, too. Below 32 the fixed point is
            not measured, because it takes as long as everything else.
    """
    print(f"Round trip of {images} unseen scenes, guidance 1, float32\n")
    print(accuracy_table(checkpoint, images), flush=True)
    print(f"an inversion of 16 images over its network calls alone: {inversion_overhead(checkpoint):.3f} x", flush=True)
    few, many = (peak_memory(checkpoint, count) / 2**20 for count in (images, 8 * images))
    print(f"peak memory: {few:.0f} MiB over {images} images, {many:.0f} MiB over {8 * images}", flush=True)
    if images >= 32:
        found = accuracy(checkpoint, 50, ReNoise(30), images=2, double=True)
        print(f"latent MSE at K = 30, 50 steps, float64: {found.latent_mse:.1e}")


if __name__ == "__main__":
    auto_cli(main)
