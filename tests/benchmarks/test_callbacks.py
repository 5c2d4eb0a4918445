from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from renoise import InversionWriter, ReNoise

Predict = Callable[..., Any]
NAMES = [f"{number}.png" for number in range(5)]


def callback(name: str, path: Path) -> str:
    setting = {"class_path": f"benchmarks.callbacks.{name}", "init_args": {"path": str(path)}}
    return f"--trainer.callbacks={json.dumps([setting] if name == 'NetworkWaits' else setting)}"  # one alone, or a list


def test_the_log_names_the_images_of_every_batch_before_they_are_written(
    tmp_path: Path, pictures: Callable[..., Path], predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, log = pictures(tmp_path / "photos", *NAMES), tmp_path / "log.jsonl"
    (root / "4.png").write_bytes(b"damaged")
    monkeypatch.setattr(InversionWriter, "write_on_batch_end", lambda *_: None)
    run = predict(root, tmp_path / "out", "--data.batch_size=2", callback("BatchLog", log))
    assert run.status == 1, "nothing is written, so every image lacks a row"
    rows = [json.loads(line)["file_names"] for line in log.read_text().splitlines()]
    assert rows == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]


def test_waiting_is_measured_between_batches_and_working_inside_them(
    tmp_path: Path, pictures: Callable[..., Path], predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, found = pictures(tmp_path / "photos", *NAMES), tmp_path / "waits.json"
    invert, write = ReNoise.invert, InversionWriter.write_on_batch_end

    def slow_invert(self: ReNoise, *arguments: Any, **options: Any) -> Any:
        time.sleep(0.2)
        return invert(self, *arguments, **options)

    def slow_write(self: InversionWriter, *arguments: Any) -> None:
        time.sleep(0.3)
        write(self, *arguments)

    monkeypatch.setattr(ReNoise, "invert", slow_invert)
    monkeypatch.setattr(InversionWriter, "write_on_batch_end", slow_write)
    assert predict(root, tmp_path / "out", "--data.batch_size=1", callback("NetworkWaits", found)).status == 0
    seconds = json.loads(found.read_text())
    assert seconds["batches"] == 3, "from the third on"
    assert seconds["working"] >= 3 * 0.2
    assert seconds["waiting"] >= 2 * 0.3
    assert 0 < seconds["network"] < seconds["working"] - 3 * 0.2
