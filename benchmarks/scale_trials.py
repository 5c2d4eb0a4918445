"""What runs over whole data sets have to withstand: several processes, kills, damaged files, many finished images."""

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
from PIL import Image
from safetensors.torch import load_file

from benchmarks.damage import damage
from benchmarks.shared.runs import read_manifest, repeat, run, start, write_scenes

FEW_STEPS: dict[str, Any] = {
    "model.checkpoint": "data/models/tiny-sd",
    "model.num_inference_steps": 5,
    "data.resolution": 64,
    "data.batch_size": 10,
    "trainer.accelerator": "cpu",
}
MORE_STEPS = {"model.num_inference_steps": 20}
"""Two processes take longer to start than one. With few steps the run ends before that pays off."""
TWO_PROCESSES = {"trainer.devices": 2, "trainer.strategy": "ddp"}
NO_INVERSION = {"model.num_inference_steps": 1, "model.inversion.iterations": 0, "data.resolution": 32}
SEED = 0


@dataclass(frozen=True)
class Sharing:
    """One process and two over the same images.

    Args:
        seconds: Of the whole command with one process and with two, start included.
        same_rows: Whether the manifests are the same, except for seconds and digits beyond the fourth.
        largest_difference: Between a latent of one and of the other.
    """

    seconds: tuple[float, float]
    same_rows: bool
    largest_difference: float


def share(folder: Path, images: int) -> Sharing:
    """Inverts scenes with one process and with two."""
    root, seconds = write_scenes(folder / "scenes", images), []
    for name, options in (("one", {}), ("two", TWO_PROCESSES)):
        started = time.perf_counter()
        run(root, folder / name, FEW_STEPS | MORE_STEPS | options)
        seconds.append(time.perf_counter() - started)
    one, two = (_comparable(folder / name) for name in ("one", "two"))
    differences = [
        load_file(folder / "one" / row["inversion"])["latent"] - load_file(folder / "two" / row["inversion"])["latent"]
        for row in one
    ]
    return Sharing((seconds[0], seconds[1]), one == two, float(torch.stack(differences).abs().max()))


def _comparable(out: Path) -> list[dict[str, Any]]:
    rounded = [
        {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        for row in read_manifest(out).values()
    ]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rounded]


@dataclass(frozen=True)
class Survival:
    """A run that was killed again and again.

    Args:
        rows: Rows of the manifest in the end, one per image.
        complete: Rows that are ok.
        problems: Files that are missing, broken or unfinished.
        batches_done_twice: Batches that were inverted, left no row and had to be inverted again.
        killed_at: Images that had a row after each kill.
    """

    rows: int
    complete: int
    problems: list[str]
    batches_done_twice: float
    killed_at: list[int]


def kill(folder: Path, images: int, kills: int) -> Survival:
    """Kills all processes of a run at random moments after a random new batch. Then lets it finish."""
    root, out, log = write_scenes(folder / "scenes", images), folder / "out", folder / "batches.jsonl"
    options = FEW_STEPS | {"trainer.callbacks": _callback("BatchLog", log)}
    rng, killed_at = random.Random(SEED), []
    most = round(2 * images / FEW_STEPS["data.batch_size"] / (kills + 2))  # leaves some batches for after the last kill
    for _ in range(kills):
        process = start(root, out, options)
        wanted = len(_inverted(log)) + rng.randint(1, max(1, most))
        while len(_inverted(log)) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2))
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed_at.append(len(read_manifest(out)))
    run(root, out, options)
    rows, inverted = read_manifest(out), sum(_inverted(log))
    return Survival(
        rows=len(rows),
        complete=sum(row["status"] == "ok" for row in rows.values()),
        problems=missing_or_broken(out),
        batches_done_twice=(inverted - images) / FEW_STEPS["data.batch_size"],
        killed_at=killed_at,
    )


def missing_or_broken(out: Path) -> list[str]:
    """Returns the files of a finished run that are missing, broken or unfinished."""
    problems = [str(path) for path in out.rglob("*.tmp")]
    for name, row in read_manifest(out).items():
        if row["status"] == "ok":
            try:
                load_file(out / row["inversion"])
                with Image.open(out / f"reconstructions/{name}.png") as image:
                    image.load()
            except Exception as error:  # a broken file can make a reader raise anything
                problems.append(f"{name}: {error}")
    return problems


def _callback(name: str, path: Path) -> str:
    return json.dumps([{"class_path": f"benchmarks.callbacks.{name}", "init_args": {"path": str(path)}}])


def _inverted(log: Path) -> list[int]:
    """Returns how many images each batch of a `BatchLog` had."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [len(json.loads(line)["file_names"]) for line in lines if line.endswith("\n")]


@dataclass(frozen=True)
class Endurance:
    """A run over good files and damaged ones.

    Args:
        good: Good files.
        good_ok: Good files that were inverted.
        damaged: Damaged files.
        damaged_rows: Damaged files that have a row.
        damaged_ok: Damaged files that were inverted, because their reader could still decode them.
        outside: Files that were written outside the output folder.
        peak: Peak resident memory of the run, in bytes.
    """

    good: int
    good_ok: int
    damaged: int
    damaged_rows: int
    damaged_ok: int
    outside: list[str]
    peak: int


def endure(folder: Path, images: int) -> Endurance:
    """Inverts as many damaged files as good ones, in one folder."""
    root, out = write_scenes(folder / "scenes", 2 * images, suffixes=(".png", ".jpg", ".webp")), folder / "out"
    rng = random.Random(SEED)
    names = sorted(path.name for path in root.iterdir() if path.name != "metadata.jsonl")
    damaged = set(rng.sample(names, images))
    for name in sorted(damaged):
        damage(root / name, rng)
    before = _files(folder)
    peak = run(root, out, FEW_STEPS | NO_INVERSION | {"data.batch_size": 50})
    rows = read_manifest(out)
    ok = {name for name, row in rows.items() if row["status"] == "ok"}
    return Endurance(
        good=len(names) - len(damaged),
        good_ok=len(ok - damaged),
        damaged=len(damaged),
        damaged_rows=len(rows.keys() & damaged),
        damaged_ok=len(ok & damaged),
        outside=sorted(name for name in _files(folder) - before if not name.startswith("out/")),
        peak=peak,
    )


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def restart(folder: Path, images: int) -> tuple[float, float]:
    """Returns the seconds of a command that finds everything done: over ten images, and over many."""
    root, out, options = write_scenes(folder / "scenes", 10, captions=False), folder / "out", FEW_STEPS | NO_INVERSION
    run(root, out, options)
    few = _seconds(root, out, options)
    row = read_manifest(out)["00000.png"]
    names = [f"made-up-{number:07d}.png" for number in range(images)]
    for path in (root / "00000.png", out / row["inversion"], out / "reconstructions/00000.png.png"):
        repeat(path, [path.name.replace("00000.png", name) for name in names])
    for process in range(4):  # as four processes of a killed run leave their rows
        with (out / ("manifest.jsonl" if process == 0 else f"manifest.{process}.jsonl")).open("a") as file:
            for name in names[process::4]:
                inversion = row["inversion"].replace("00000.png", name)
                file.write(json.dumps({**row, "file_name": name, "inversion": inversion}) + "\n")
    many = _seconds(root, out, options)
    rows, nameless = read_manifest(out), {"file_name": "", "inversion": ""}
    if any(rows[name] | nameless != row | nameless for name in names):  # `seconds` would differ
        raise RuntimeError("the restart did finished images again")
    return few, many


def _seconds(root: Path, out: Path, options: dict[str, Any]) -> float:
    started = time.perf_counter()
    run(root, out, options)
    return time.perf_counter() - started


@dataclass(frozen=True)
class Waits:
    """Shares of the time of a run that captions, inverts, edits and writes.

    Args:
        between: Between batches.
        idle: While the network does not compute: `between`, the autoencoder inside batches, and all other arithmetic.
    """

    between: float
    idle: float


def wait(folder: Path, images: int) -> Waits:
    """Inverts scenes that have no captions."""
    root, found = write_scenes(folder / "scenes", images, captions=False), folder / "waits.json"
    options = {"config": "configs/tiny/captioned.yaml", "trainer.accelerator": "cpu"}
    run(root, folder / "out", options | {"trainer.callbacks": _callback("NetworkWaits", found)})
    seconds = json.loads(found.read_text())
    total = seconds["waiting"] + seconds["working"]
    return Waits(between=seconds["waiting"] / total, idle=1 - seconds["network"] / total)
