"""What runs over whole data sets are put through: several processes, kills, damaged files, many rows."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.scale_runs import damage, missing_or_broken, run, start, write_scenes
from renoise.data.image_folder import ImageFolderDataModule
from renoise.data.metadata import METADATA_NAME
from renoise.outputs.manifest import Manifest, in_order
from renoise.utils.jsonl import JsonLines

FEW_STEPS: dict[str, Any] = {
    "model.checkpoint": "data/models/tiny-sd",
    "model.num_inference_steps": 5,
    "data.resolution": 64,
    "data.batch_size": 10,
    "trainer.accelerator": "cpu",
}
MORE_STEPS = {"model.num_inference_steps": 20}
"""As few-step runs are over before starting two processes, one after the other, has paid."""
TWO_PROCESSES = {"trainer.devices": 2, "trainer.strategy": "ddp"}
SEED = 0


@dataclass(frozen=True)
class Sharing:
    """One process and two over the same images.

    Args:
        seconds: of the whole command, start included, under one process and under two.
        same_rows: whether the manifests agree in all but seconds and the digits beyond the fourth.
        furthest: largest difference of a latent between the two.
    """

    seconds: tuple[float, float]
    same_rows: bool
    furthest: float


def share(folder: Path, images: int) -> Sharing:
    """Inverts scenes by one process and by two."""
    root = write_scenes(folder / "scenes", images)
    seconds = []
    for name, options in (("one", {}), ("two", TWO_PROCESSES)):
        started = time.perf_counter()
        run(root, folder / name, FEW_STEPS | MORE_STEPS | options)
        seconds.append(time.perf_counter() - started)
    one, two = (_comparable(folder / name) for name in ("one", "two"))
    differences = [
        (
            load_file(folder / "one" / row["inversion"])["latent"]
            - load_file(folder / "two" / row["inversion"])["latent"]
        )
        for row in one
    ]
    return Sharing((seconds[0], seconds[1]), one == two, float(torch.stack(differences).abs().max()))


def _comparable(out: Path) -> list[dict[str, Any]]:
    return [
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in row.items()
            if name != "seconds"
        }
        for row in Manifest(out).read()
    ]


@dataclass(frozen=True)
class Survival:
    """A run that was killed again and again.

    Args:
        rows: of the manifest in the end, one per image.
        complete: of these, that are ok.
        problems: files that are missing, broken or unfinished.
        batches_done_twice: batches that had been inverted, and had to be once more.
        killed_at: images that had their row after each kill.
    """

    rows: int
    complete: int
    problems: list[str]
    batches_done_twice: float
    killed_at: list[int]


def kill(folder: Path, images: int, kills: int, options: dict[str, Any] | None = None) -> Survival:
    """Kills a run, all its processes at once, at random moments after a random new batch; then lets it finish."""
    root, out, log = write_scenes(folder / "scenes", images), folder / "out", folder / "batches.jsonl"
    watch = f'[{{"class_path": "benchmarks.callbacks.BatchLog", "init_args": {{"path": "{log}"}}}}]'
    everything = FEW_STEPS | {"trainer.callbacks": watch} | (options or {})
    rng, killed_at = random.Random(SEED), []
    most = round(2 * images / FEW_STEPS["data.batch_size"] / (kills + 2))  # so that some is left after the last kill
    for _ in range(kills):
        process = start(root, out, everything)
        wanted = _inverted(log) + rng.randint(1, max(1, most))
        while _inverted(log) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2))
        with suppress(ProcessLookupError):  # it was done before
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed_at.append(len(Manifest(out).read()))
    run(root, out, everything)
    rows = Manifest(out).read()
    inverted = sum(len(json.loads(line)["file_names"]) for _, _, line in JsonLines(log).lines())
    return Survival(
        rows=len(rows),
        complete=sum(row["status"] == "ok" for row in rows),
        problems=missing_or_broken(out),
        batches_done_twice=(inverted - images) / FEW_STEPS["data.batch_size"],
        killed_at=killed_at,
    )


def _inverted(log: Path) -> int:
    return sum(1 for _ in JsonLines(log).lines())


@dataclass(frozen=True)
class Endurance:
    """A run over good files and damaged ones.

    Args:
        good: good files, and of these those that came out.
        damaged: damaged files, and of these those that have a row; what a decoder forgives is ok, all else failed.
        forgiven: damaged files that are ok.
        outside: files that were written outside the output folder.
    """

    good: tuple[int, int]
    damaged: tuple[int, int]
    forgiven: int
    outside: list[str]


def endure(folder: Path, images: int) -> Endurance:
    """Inverts as many damaged files as good ones, in one folder."""
    root, out = write_scenes(folder / "scenes", 2 * images, suffixes=(".png", ".jpg", ".webp")), folder / "out"
    rng = random.Random(SEED)
    names = sorted(path.name for path in root.iterdir() if path.name != METADATA_NAME)
    damaged = set(rng.sample(names, images))
    for name in sorted(damaged):
        damage(root / name, rng)
    before = _files(folder)
    fast = {"model.num_inference_steps": 1, "model.renoise_iterations": 0, "data.resolution": 32, "data.batch_size": 50}
    run(root, out, FEW_STEPS | fast)
    status = {row["file_name"]: row["status"] for row in Manifest(out).read()}
    good = [name for name in names if name not in damaged]
    return Endurance(
        good=(len(good), sum(status.get(name) == "ok" for name in good)),
        damaged=(len(damaged), sum(name in status for name in damaged)),
        forgiven=sum(status.get(name) == "ok" for name in damaged),
        outside=sorted(name for name in _files(folder) - before if not name.startswith("out/")),
    )


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def take_over(folder: Path, images: int) -> dict[str, float]:
    """Seconds that a run over many finished images takes for each thing before it would invert the next one."""
    root = folder / "images"
    root.mkdir(parents=True)
    for number in range(images):
        (root / f"{number:07d}.png").touch()
    measured = {"psnr": 29.123456, "ssim": 0.9123, "psnr_vae": 30.1, "latent_mse": 1.2e-3, "nfe": 100}
    rows = [
        {"file_name": f"{number:07d}.png", "status": "ok", "error": None, "prompt": "", "edit_prompt": None}
        | measured
        | {"seconds": 1.5, "inversion": f"inversions/{number:07d}.png.safetensors", "edits": {"PromptSwap": "ok"}}
        for number in range(images)
    ]
    for rank in range(4):
        Manifest(folder, rank).append(rows[rank::4])
    seconds, started = {}, time.perf_counter()

    def lap(what: str) -> None:
        nonlocal started
        seconds[what] = time.perf_counter() - started
        started = time.perf_counter()

    data = ImageFolderDataModule(root)
    data.setup("predict")
    lap("list the images")
    manifest = Manifest(folder)
    manifest.repair()
    done = manifest.read()
    lap("read what is done")
    manifest.replace(in_order(done))
    lap("merge four processes' rows")
    data.exclude({row["file_name"] for row in done})
    assert len(data.predict_dataloader()) == 0
    lap("leave them out")
    return seconds


@dataclass(frozen=True)
class Waits:
    """Shares of the time, where images are captioned, edited and written too.

    Args:
        between: that passes between batches.
        idle: that the UNet does not compute; beside the above the autoencoder's part and all arithmetic.
    """

    between: float
    idle: float


def wait(folder: Path, images: int) -> Waits:
    """Inverts scenes without any text."""
    root, found = write_scenes(folder / "scenes", images, captions=False), folder / "waits.json"
    watch = f'[{{"class_path": "benchmarks.callbacks.NetworkWaits", "init_args": {{"path": "{found}"}}}}]'
    options = {"trainer.callbacks": watch, "config": "configs/tiny/captioned.yaml", "trainer.accelerator": "cpu"}
    run(root, folder / "out", options)
    seconds = json.loads(found.read_text())
    time_in_all = seconds["waiting"] + seconds["working"]
    return Waits(between=seconds["waiting"] / time_in_all, idle=1 - seconds["network"] / time_in_all)
