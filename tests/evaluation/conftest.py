"""What tests of evaluations share: a data set with texts and masks, and a suite of two methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.suites import SUITE
from PIL import Image


@pytest.fixture(scope="session")
def masked_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of 32 × 32 with texts; the mask is the left half."""
    root = tmp_path_factory.mktemp("masked")
    (root / "masks").mkdir()
    rows = []
    for number, name in enumerate(["a.png", "b.png", "c.png"]):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(root / name)
        mask = np.zeros((32, 32), bool)
        mask[:, :16] = True
        Image.fromarray(mask).save(root / "masks" / name)
        rows.append({"file_name": name, "text": "a cat", "edit_text": "a dog", "mask": f"masks/{name}"})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="session")
def evaluate(run_cli: Callable[..., Any], tiny_sd: Path) -> Callable[..., Any]:
    """`evaluate(suite, root, out, *options)` compares the methods of a suite in two steps, small and on the CPU."""

    def run(suite: Any, root: Path, out: Path, *options: str | Path) -> Any:
        path = suite
        if isinstance(suite, dict):
            path = out.parent / f"{out.name}.yaml"
            path.write_text(json.dumps(suite))
        given = {
            "--model.checkpoint": tiny_sd,
            "--model.num_inference_steps": 2,
            "--data.root": root,
            "--data.resolution": 32,
            "--data.batch_size": 1,  # sums of a batch of another size are rounded otherwise
            "--trainer.default_root_dir": out,
            "--trainer.accelerator": "cpu",
            "--trainer.enable_progress_bar": "false",
        }
        return run_cli("evaluate", "--suite", path, *(f"{name}={value}" for name, value in given.items()), *options)

    return run


@pytest.fixture(scope="session")
def evaluated(evaluate: Callable[..., Any], masked_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished evaluation of `SUITE`. Tests leave it as it is."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    ended = evaluate(SUITE, masked_pictures, out, "--compare_at", "nfe")
    assert ended.status == 0, ended.err
    return out
