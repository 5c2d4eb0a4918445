"""Runs of several processes, on one machine and on two simulated ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import assert_whole, free_port, times
from safetensors.torch import load_file

from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]
Command = Callable[..., list[str]]

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [f"{number}.png" for number in range(7)]


@pytest.fixture(scope="module")
def command(tiny_sd: Path) -> Command:
    """`command(root, out, **options)` is the program on these folders."""

    def words(root: Path, out: Path, **options: object) -> list[str]:
        given = {
            "model.checkpoint": tiny_sd,
            "model.num_inference_steps": 2,
            "model.inversion.iterations": 1,
            "data.root": root,
            "data.resolution": 32,
            "data.batch_size": 2,
            "trainer.default_root_dir": out,
            "trainer.accelerator": "cpu",
            "trainer.strategy": "ddp",
            "trainer.enable_progress_bar": "false",
        }
        given |= {name.replace("__", "."): value for name, value in options.items()}
        program = [str(REPOSITORY / "train_like.py"), "predict"]
        return [*program, *(f"--{name}={value}" for name, value in given.items())]

    return words


def start(words: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    everything = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())} | environment
    return subprocess.Popen(words, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def without_seconds(folder: Path) -> list[dict[str, Any]]:
    """Returns the manifest's rows in order, without seconds, with metrics to four digits."""
    return [
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in row.items()
            if name != "seconds"
        }
        for row in Manifest(folder).read()
    ]


def test_two_machines_under_torchrun_write_what_one_process_writes(
    tmp_path: Path, pictures: Pictures, predict: Predict, command: Command, tiny_blip2: Path
) -> None:
    root = pictures(tmp_path / "photos", *NAMES)
    (root / "bad.png").touch()
    two = {"trainer__num_nodes": 2, "trainer__devices": 1, "data__captioner__checkpoint": tiny_blip2}
    meeting = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}"]
    words = [sys.executable, "-m", "torch.distributed.run", *meeting, *command(root, tmp_path / "two", **two)]
    running = [start(words) for _ in range(2)]
    options = ["--model.inversion.iterations=1", "--data.batch_size=2", f"--data.captioner.checkpoint={tiny_blip2}"]
    assert predict(root, tmp_path / "one", *options).status == 0
    ends = [finished(process) for process in running]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert sum(out.count("contact sheet: ") for _, out, _ in ends) == 1, "only one process prints"
    assert without_seconds(tmp_path / "two") == without_seconds(tmp_path / "one")
    captions = [sorted((tmp_path / folder / "captions.jsonl").read_text().splitlines()) for folder in ("one", "two")]
    assert captions[0] == captions[1]
    assert len(captions[0]) == len(NAMES)
    for name in NAMES:
        latents = [load_file(tmp_path / each / f"inversions/{name}.safetensors")["latent"] for each in ("two", "one")]
        torch.testing.assert_close(*latents, atol=1e-5, rtol=0)
    there = {path.relative_to(tmp_path / "two").as_posix() for path in (tmp_path / "two").rglob("*")}
    assert there == {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*")}


def test_a_run_with_more_processes_than_images_continues_with_another_number_of_processes(
    tmp_path: Path, pictures: Pictures, predict: Predict, command: Command
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES[:1]), tmp_path / "out"
    status, _, err = finished(start([sys.executable, *command(root, out, trainer__devices=2)]))
    assert (status, err) == (0, "")
    assert_whole(out, NAMES[:1])
    before = times(out, NAMES[:1])
    pictures(root, *NAMES[1:])
    assert predict(root, out, "--model.inversion.iterations=1").status == 0, "one process continues the run of two"
    assert_whole(out, NAMES)
    assert times(out, NAMES[:1]) == before


def test_results_of_the_other_processes_survive_a_killed_process(
    tmp_path: Path, pictures: Pictures, predict: Predict, command: Command
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    options = {"trainer__devices": 2, "data__batch_size": 1, "model__num_inference_steps": 40}
    running = start([sys.executable, *command(root, out, **options)])
    part = out / "manifest.1.jsonl"
    until = time.monotonic() + 120
    while not (part.exists() and (out / "manifest.jsonl").exists()) and time.monotonic() < until:
        time.sleep(0.01)
    child = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[0]
    os.kill(int(child), signal.SIGKILL)
    status, _, err = finished(running)
    assert status != 0
    assert "terminated with code -9" in err, "the user is told which process died"
    done = [row["file_name"] for row in Manifest(out).read()]
    assert 2 <= len(done) < len(NAMES)
    before = times(out, done)
    again = ["--model.inversion.iterations=1", "--model.num_inference_steps=40"]
    assert predict(root, out, *again).status == 0
    assert_whole(out, NAMES)
    assert times(out, done) == before
    assert not part.exists()


def test_a_process_that_cannot_read_the_folder_ends_all_of_them(
    tmp_path: Path, pictures: Pictures, command: Command
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    nodes = {"trainer__num_nodes": 2, "trainer__devices": 1}
    running = [
        start([sys.executable, *command(each, out, **nodes)], **shared, NODE_RANK=str(rank))
        for rank, each in enumerate((root, tmp_path / "nowhere"))
    ]
    (status, _, err), (other_status, _, _) = map(finished, running)
    assert (status, other_status) == (2, 2)
    assert err.count("\n") == 1
    assert err.startswith("error: process 1 of 2, on ")
    assert "nowhere does not exist" in err
    assert not out.exists(), "no process has started to write"
