"""Data sets of made-up images, and runs of the program over them as processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file

from benchmarks.evaluation import UNSEEN_SEED
from renoise.outputs.manifest import Manifest
from tiny_models.scenes import random_scenes

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Processes that have as many threads as there are cores, each, hold one another up."""
ODD_FORMS = (
    *(("CMYK", "JPEG", None), ("I;16", "PNG", None), ("P", "GIF", None), ("1", "BMP", None), ("LA", "PNG", None)),
    *(("RGB", "TIFF", (1, 1)), ("RGB", "WEBP", (900, 1)), ("RGBA", "PNG", (1, 300))),
)
"""Modes, formats and sizes that are rare, and whole all the same."""


def write_scenes(folder: Path, count: int, captions: bool = True, suffixes: Sequence[str] = (".png",)) -> Path:
    """Draws scenes as `00000.png` and so on, suffixes in turn, with `metadata.jsonl` where they shall have captions."""
    folder.mkdir(parents=True)
    rows = []
    for number, scene in enumerate(random_scenes(count, UNSEEN_SEED)):
        name = f"{number:05d}{suffixes[number % len(suffixes)]}"
        scene.draw().save(folder / name)
        rows.append(json.dumps({"file_name": name, "text": scene.caption}) + "\n")
    if captions:
        (folder / "metadata.jsonl").write_text("".join(rows))
    return folder


def start(root: Path, out: Path, options: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """Begins a run over a folder, each process on one thread; options by their names."""
    everything = {"data.root": root, "trainer.default_root_dir": out, "trainer.enable_progress_bar": False, **options}
    in_order = sorted(everything, key=lambda name: name != "config")  # what comes later overrides what comes before
    words = [f"--{name}={everything[name]}" for name in in_order]
    return subprocess.Popen(
        [sys.executable, "-m", "renoise", "predict", *words],
        env=os.environ | ONE_THREAD,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that all its processes can be ended together
    )


def run(root: Path, out: Path, options: Mapping[str, Any]) -> None:
    """The same to its end.

    Raises:
        RuntimeError: it ended with another status than 0.
    """
    process = start(root, out, options)
    _, said = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the run over {root} ended with status {process.returncode}: {said.decode()[-2000:]}")


def missing_or_broken(out: Path) -> list[str]:
    """Images of a finished run whose files are not all there and whole, and files that nobody finished."""
    problems = [str(path) for path in out.rglob("*.tmp")]
    for row in Manifest(out).read():
        if row["status"] == "ok":
            try:
                load_file(out / row["inversion"])
                with Image.open(out / f"reconstructions/{row['file_name']}.png") as picture:
                    picture.load()
            except Exception as error:  # whatever a broken file makes a reader raise
                problems.append(f"{row['file_name']}: {error}")
    return problems


def damage(path: Path, rng: random.Random) -> None:
    """Makes an odd or broken file of a good one, in one of the ways in which files go wrong."""
    content = bytearray(path.read_bytes())
    way = rng.randrange(10)
    if way == 0:  # a copy that was cut off
        content = content[: rng.randrange(len(content))]
    elif way in (1, 2):  # bits that turned over
        for _ in range(rng.choice((1, 8, 64))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif way == 3:  # a hole
        place = rng.randrange(len(content))
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    elif way == 4:  # bytes too many
        place = rng.randrange(len(content))
        content[place:place] = rng.randbytes(rng.randrange(1, 300))
    elif way == 5:  # no picture at all
        content = bytearray(rng.randbytes(rng.choice((0, 1, 8, 4096))))
    elif way == 6:  # sizes that cannot be
        content[16:24] = rng.randbytes(8)
    path.unlink()
    if way == 7:  # a link to nowhere, to itself, or out of the folder
        path.symlink_to(rng.choice(("nowhere.png", path.name, "../../../../etc/hostname")))
    elif way == 8:
        _make_no_file(path, rng)
    elif way == 9:
        path.write_bytes(_in_an_odd_form(bytes(content), rng))
    else:
        path.write_bytes(content)


def _in_an_odd_form(content: bytes, rng: random.Random) -> bytes:
    """The same picture in a form that is rare but whole, whatever the name of its file says."""
    odd = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        mode, kind, size = rng.choice(ODD_FORMS)
        picture.convert("L" if mode == "I;16" else mode).resize(size or picture.size).convert(mode).save(odd, kind)
    return odd.getvalue()


def _make_no_file(path: Path, rng: random.Random) -> None:
    if rng.random() < 0.5:
        os.mkfifo(path)
    else:
        path.touch()
        with contextlib.suppress(PermissionError):
            path.chmod(0)  # which does not stop the system's administrator
