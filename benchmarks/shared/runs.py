"""Runs of the program in processes of their own, over scenes in folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.shared.presets import CHECKOUT
from benchmarks.shared.scenes import unseen_scenes

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Several processes with a thread per core each would slow one another down."""
MAX_LINKS = 10_000


def write_scenes(
    folder: Path, count: int, captions: bool = True, edit_texts: bool = False, suffixes: Sequence[str] = (".png",)
) -> Path:
    """Draws scenes as `00000.png`, `00001.png`, … and returns the folder.

    Args:
        folder: Is created.
        count: Number of scenes.
        captions: Whether to write their captions into `metadata.jsonl`.
        edit_texts: Whether to write prompts for edits too, each with a word that no other has.
        suffixes: Are used in turn.
    """
    folder.mkdir(parents=True)
    rows = []
    for number, scene in enumerate(unseen_scenes(count)):
        name = f"{number:05d}{suffixes[number % len(suffixes)]}"
        scene.draw().save(folder / name)
        row = {"file_name": name, "text": scene.caption}
        if edit_texts:
            row["edit_text"] = replace(scene, subject=f"thing{number}").caption
        rows.append(json.dumps(row) + "\n")
    if captions:
        (folder / "metadata.jsonl").write_text("".join(rows))
    return folder


def repeat(path: Path, names: Sequence[str]) -> None:
    """Gives a file more names in its folder, with the same content and time. File systems limit the links to a file."""
    for first in range(0, len(names), MAX_LINKS):
        source = Path(shutil.copy2(path, path.with_name(names[first])))
        for name in names[first + 1 : first + MAX_LINKS]:
            os.link(source, path.with_name(name))


def start(
    root: Path, out: Path, options: Mapping[str, Any], stderr: Any = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Starts a run with one thread per process.

    Args:
        root: Folder of images.
        out: Output folder.
        options: Options of the command line by name, without the dashes.
        stderr: As of `subprocess.Popen`.
    """
    given = {"data.root": root, "trainer.default_root_dir": out, "trainer.enable_progress_bar": False, **options}
    names = sorted(given, key=lambda name: name != "config")  # later options override earlier ones
    return subprocess.Popen(
        [sys.executable, str(CHECKOUT / "train_like.py"), "predict", *(f"--{name}={given[name]}" for name in names)],
        env=os.environ | ONE_THREAD,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # so that all its processes can be killed together
    )


def run(root: Path, out: Path, options: Mapping[str, Any]) -> int:
    """Runs the program to its end and returns its peak resident memory in bytes. See `start`.

    Raises:
        RuntimeError: The run ended with an error.
    """
    with tempfile.TemporaryFile() as errors:
        process = start(root, out, options, errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # so that `process` does not wait for it again
        if process.returncode != 0:
            errors.seek(0)
            text = errors.read().decode()[-2000:]
            raise RuntimeError(f"the run over {root} ended with status {process.returncode}: {text}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_memory(checkpoint: str, images: int, options: Mapping[str, Any] | None = None) -> int:
    """Returns the peak resident memory in bytes of a run that inverts scenes in two steps.

    Args:
        checkpoint: A hub id or a folder in diffusers layout.
        images: Number of scenes.
        options: Further options of the command line.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = write_scenes(Path(folder, "scenes"), images, edit_texts=True)
        small = {"model.num_inference_steps": 2, "model.inversion.iterations": 0, "data.resolution": 64}
        given = {"model.checkpoint": checkpoint, "data.batch_size": 16, **small, **(options or {})}
        return run(root, Path(folder, "out"), given)


def read_manifest(out: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of a run by file name, also while several processes write them."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob("manifest*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for row in (json.loads(line) for line in lines if line.endswith("\n")):
            rows[row["file_name"]] = row
    return rows
