"""How fast inversion is: `python -m benchmarks.speed` writes the tables of docs/performance.md.

Images per second, NFE, the time over the same network calls alone, and peak memory, of every preset at several batch
sizes. Every preset is measured in a process of its own, with one thread.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli

from benchmarks.shared.full_size import FAMILIES, random_unet
from benchmarks.shared.network_calls import timed
from benchmarks.shared.pages import check_block, replace_block
from benchmarks.shared.peak_memory import with_peak
from benchmarks.shared.presets import load, read_tiny, tiny_presets
from benchmarks.shared.runs import ONE_THREAD
from benchmarks.shared.scenes import encode, prompts_of, unseen_scenes
from benchmarks.shared.tables import markdown
from renoise import Conditioning, InversionPipeline, StableDiffusionXL

PLAIN = "K = 1, no regularization"
PLAIN_MODEL: Mapping[str, Any] = {
    "checkpoint": "data/models/tiny-sd",
    "num_inference_steps": 10,
    "inversion": {"class_path": "ReNoise", "init_args": {"iterations": 1}},
}
LARGE_STEPS = 4
"""Most steps on latents of full size, where each takes long."""
FORMATS = {"images per second": ".3g", "NFE": ".1f", "over its network calls": ".3f", "peak MiB": ".0f"}
OWN, LARGE, GPU = "speed", "speed on 64×64", "speed on a GPU"
"""Names of the page's blocks."""

Row = dict[str, Any]
Inputs = tuple[torch.Tensor, Conditioning, list[str]]


def tiny_rows(preset: str, batches: Sequence[int], steps: int | None, repeats: int, side: int = 16) -> list[Row]:
    """Measures a preset on its shipped model, over unseen scenes.

    Args:
        preset: Its name, or `PLAIN`.
        batches: Batch sizes. Increasing ones, so that the memory of one does not hide that of the next.
        steps: Most steps. None takes the preset's.
        repeats: See `timed`.
        side: Of the latents. Above 16, the scenes' latents are enlarged.
    """
    pipeline = load_tiny(preset, steps)

    def inputs(batch_size: int) -> Inputs:
        scenes = unseen_scenes(batch_size)
        return F.interpolate(encode(pipeline.model, scenes), size=side), *prompts_of(pipeline.model, scenes)

    return [measure(preset, pipeline, inputs(batch_size), repeats) for batch_size in batches]


def full_size_rows(preset: str, batches: Sequence[int], steps: int | None, repeats: int, device: str) -> list[Row]:
    """Measures a preset's method on a UNet of the true size with random weights, in bfloat16.

    Args:
        preset: Its name, or `PLAIN`. Presets of SDXL and its descendants get its UNet, others that of SD 1.5.
        batches: Batch sizes.
        steps: Most steps. None takes the preset's.
        repeats: See `timed`.
        device: A GPU.
    """
    pipeline = load_tiny(preset, steps)
    model: Any = pipeline.model
    family = "sdxl" if isinstance(model, StableDiffusionXL) else "sd15"
    unet: Any = random_unet(family).bfloat16()
    model.network = unet
    model.pipeline.register_modules(unet=unet)
    model.pipeline.to(device)
    side, embedding_size = FAMILIES[family]["unet"]["sample_size"], unet.config.cross_attention_dim

    def inputs(batch_size: int) -> Inputs:
        numbers = torch.Generator(device).manual_seed(0)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(batch_size, *shape, generator=numbers, device=device)

        conditioning = Conditioning(normal(77, embedding_size))
        if family == "sdxl":
            pooled_size = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            sizes = torch.tensor([[8.0 * side, 8 * side, 0, 0, 8 * side, 8 * side]] * batch_size, device=device)
            conditioning = Conditioning(
                conditioning.prompt_embeds, pooled_prompt_embeds=normal(pooled_size), time_ids=sizes
            )
        return normal(unet.config.in_channels, side, side), conditioning, [str(index) for index in range(batch_size)]

    return [measure(preset, pipeline, inputs(batch_size), repeats) for batch_size in batches]


def load_tiny(preset: str, steps: int | None) -> InversionPipeline:
    """Loads a preset's shipped model, its sampler with at most so many steps, and its inversion method."""
    model = dict(PLAIN_MODEL if preset == PLAIN else read_tiny(preset))
    if steps is not None:
        model["num_inference_steps"] = min(steps, model["num_inference_steps"])
    return load(model)


@torch.no_grad()
def measure(preset: str, pipeline: InversionPipeline, inputs: Inputs, repeats: int) -> Row:
    """Returns the row of one preset at one batch size."""
    latents = inputs[0]
    nfe = torch.zeros(1)

    def invert() -> None:
        nonlocal nfe
        inversion = pipeline.invert_latents(*inputs)
        assert not inversion.failures, inversion.failures
        nfe = inversion.nfe

    timing, peak = with_peak(lambda: timed(pipeline.model.network, invert, repeats))
    return {
        "preset": preset,
        "latents": f"{latents.shape[-2]}×{latents.shape[-1]}",
        "steps": len(pipeline.schedule),
        "batch": len(latents),
        "images per second": len(latents) / timing.seconds,
        "NFE": float(nfe.float().mean()),
        "over its network calls": timing.overhead,
        "peak MiB": peak,
    }


def in_own_process(function: Callable[..., list[Row]], *arguments: Any) -> list[Row]:
    """Calls a function of this file in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def main(
    batches: Sequence[int] = (1, 4, 16),
    steps: int | None = None,
    repeats: int = 5,
    page: Path | None = Path("docs/performance.md"),
) -> None:
    """Measures every preset in configs/tiny, and prints the tables.

    On 64×64 latents the largest batch is measured alone, once and with at most 4 steps. A GPU, if there is one, also
    runs UNets of the true sizes with random weights: SD 1.5 at 512×512 pixels and SDXL at 1024×1024.

    Args:
        batches: Batch sizes, increasing.
        steps: Most steps of a preset, 2 or more, because the last step draws no noise. Null takes the preset's own.
        repeats: Measurements, of which the median is taken.
        page: Its marked blocks are replaced. Null writes no page.
    """
    if page:
        for block in (OWN, LARGE, GPU):  # before measuring
            check_block(page, block)
    os.environ.update(ONE_THREAD)
    presets = [PLAIN, *tiny_presets()]
    few = min(steps or LARGE_STEPS, LARGE_STEPS)
    suites: dict[str, Callable[[str], list[Row]]] = {
        OWN: lambda name: in_own_process(tiny_rows, name, batches, steps, repeats),
        LARGE: lambda name: in_own_process(tiny_rows, name, batches[-1:], few, 1, 64),
    }
    if torch.cuda.is_available():
        suites[GPU] = lambda name: in_own_process(full_size_rows, name, batches, few, repeats, "cuda")
    for block, suite in suites.items():
        rows: list[Row] = []
        print(f"{block}\n", flush=True)
        for preset in presets:
            rows += (found := suite(preset))
            print(markdown(pd.DataFrame(found), FORMATS), flush=True)
        if page:
            replace_block(page, block, f"\n{markdown(pd.DataFrame(rows), FORMATS)}\n")


if __name__ == "__main__":
    auto_cli(main)
