"""Every config runs as it is, but for its size: the model becomes the shipped one, and few images take few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from renoise.manifest import Manifest

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = sorted(
    path
    for path in (REPOSITORY / "configs").rglob("*.yaml")
    if path.parent.name != "zoo"  # tests/zoo/test_fit.py
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_runs(
    config: Path,
    tmp_path: Path,
    pictures: Callable[..., Path],
    renoise: Callable[..., Any],
    tiny_sd: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)  # where configs are said to run
    root = pictures(tmp_path / "photos", "a.png", "b.png")
    texts = {"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}
    (root / "metadata.jsonl").write_text(json.dumps(texts))
    small = {
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.strategy": "auto",
        "trainer.default_root_dir": tmp_path / "out",
        "model.checkpoint": tiny_sd,
        "model.num_inference_steps": 2,
        "data.root": root,
        "data.resolution": 32,
    }
    run = renoise("predict", "--config", config, *(f"--{name}={value}" for name, value in small.items()))
    assert run.status == 0, run.err
    rows = Manifest(tmp_path / "out").read()
    assert {row["file_name"]: row["status"] for row in rows} == {"a.png": "ok", "b.png": "ok"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_local_path_in_a_config_exists(config: Path) -> None:
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert (REPOSITORY / content["data"]["init_args"]["root"]).exists()
    checkpoint = content["model"]["checkpoint"]
    assert (REPOSITORY / checkpoint).exists() or checkpoint.count("/") == 1, "neither a folder here nor a hub id"
    assert (content["trainer"]["default_root_dir"] or "out/default").split("/")[0] == "out", "git ignores out/"


def test_there_are_configs_to_run() -> None:
    assert "quickstart" in [path.stem for path in CONFIGS]
