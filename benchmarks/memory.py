"""What each family of models takes of memory: `python -m benchmarks.memory` prints it.

The first table is computed from the sizes of the weights. The second is measured: complete runs of the program with a
checkpoint of the true size and random weights, with each of the options that save memory.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import nn

from benchmarks.shared.full_size import FAMILIES, parts_of, write_checkpoint
from benchmarks.shared.presets import CHECKOUT
from benchmarks.shared.runs import start, write_scenes
from benchmarks.shared.tables import markdown

GIB = 2**30
TRIALS: Mapping[str, Mapping[str, Any]] = {
    "bf16-true": {},
    "vae_tiling": {"model.vae_tiling": True},
    "layerwise_casting": {"model.layerwise_casting": True},
    "channels_last": {"model.channels_last": True},
    "compile": {"model.compile": True},
    "offload model": {"model.offload": "model"},
    "offload group": {"model.offload": "group"},
    "offload sequential": {"model.offload": "sequential"},
    "offload group, tiling, casting": {
        "model.offload": "group",
        "model.vae_tiling": True,
        "model.layerwise_casting": True,
    },
}
"""Options of the measured runs. Those with `offload` need a GPU."""


def main(family: str = "sdxl", resolution: int = 512, steps: int = 2, measured: bool = True) -> None:
    """Prints both tables.

    Args:
        family: Of the measured runs: sd15, sd21 or sdxl.
        resolution: Side of the image in pixels.
        steps: Steps of the sampler. Each takes two calls of the network during inversion and one on the way back.
        measured: Whether to measure runs too. An SDXL takes 7 GB of disk, and minutes for each run on a CPU.
    """
    formats = dict.fromkeys(["32 bits", "16 bits", "model", "group", "sequential", "layerwise_casting"], ".2f")
    print(markdown(pd.DataFrame(weights_on_the_device(name) for name in FAMILIES), formats), flush=True)
    if measured:
        with tempfile.TemporaryDirectory() as scratch:
            rows = measure(Path(scratch), family, resolution, steps)
        print(markdown(pd.DataFrame(rows), {"memory": ".2f", "GPU memory": ".2f", "seconds": ".0f"}), flush=True)


def weights_on_the_device(family: str) -> dict[str, Any]:
    """Returns how many GiB of weights are on the device at once, by option. Only the first is in 32 bits.

    Args:
        family: A name in `FAMILIES`.

    Example:
        >>> from benchmarks.memory import weights_on_the_device
        >>> round(weights_on_the_device("sdxl")["16 bits"], 1)
        6.5
    """
    parts = parts_of(family)
    sizes = {name: _size(part) for name, part in parts.items()}
    layers = sorted(
        sum(weight.nbytes for weight in layer.parameters(recurse=False))
        for part in parts.values()
        for layer in part.modules()
    )
    total = sum(sizes.values())
    row = {
        "32 bits": 2 * total,
        "16 bits": total,
        "layerwise_casting": total - sizes["unet"] / 2,
        "model": sizes["unet"] + sizes["vae"],  # the autoencoder stays beside the network that is called after it
        "group": layers[-1] + layers[-2],
        "sequential": layers[-1],
    }
    return {"family": family, **{name: size / GIB for name, size in row.items()}}


def measure(scratch: Path, family: str, resolution: int, steps: int) -> list[dict[str, Any]]:
    """Runs the program once for each trial that this machine can do.

    Returns:
        A row for each: GiB of the process's own memory (pages of files that it maps, which the system takes back when
        memory is short, not counted), GiB of GPU memory, and seconds.
    """
    checkpoint = scratch / family
    write_checkpoint(checkpoint, family, CHECKOUT / "data" / "models" / "tiny-sdxl" / "tokenizer")
    root = write_scenes(scratch / "scenes", 1)
    options = {
        "model.checkpoint": checkpoint,
        "model.num_inference_steps": steps,
        "model.inversion.iterations": 1,
        "data.resolution": resolution,
        "trainer.precision": "bf16-true",
    }
    rows = []
    for name, more in TRIALS.items():
        if torch.cuda.is_available() or "offload" not in name:
            started = time.perf_counter()
            memory, gpu_memory = _peaks(root, scratch / "out" / name.replace(" ", "-"), options | dict(more))
            seconds = time.perf_counter() - started
            rows.append({"options": name, "memory": memory, "GPU memory": gpu_memory, "seconds": seconds})
    return rows


def _peaks(root: Path, out: Path, options: Mapping[str, Any]) -> tuple[float, float]:
    """Runs the program. Returns the greatest GiB of its own memory and of the GPU's, NaN without a GPU."""
    before, own, gpu = _gpu_memory(), 0.0, 0.0
    with tempfile.TemporaryFile() as errors:
        process = start(root, out, options, errors)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"RssAnon:\s+(\d+) kB", status)
            own = max(own, int(found[1]) * 1024 / GIB if found else 0)
            gpu = max(gpu, _gpu_memory() - before)
            time.sleep(0.2)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"the run into {out} failed: {errors.read().decode()[-2000:]}")
    return own, gpu if torch.cuda.is_available() else float("nan")


def _gpu_memory() -> float:
    """Returns the GiB in use on the first GPU, by whatever process. 0 where there is no GPU."""
    if not torch.cuda.is_available():
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / GIB


def _size(part: nn.Module) -> int:
    return sum(weight.nbytes for weight in part.parameters())


if __name__ == "__main__":
    auto_cli(main)
