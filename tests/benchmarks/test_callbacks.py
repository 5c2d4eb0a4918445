from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from renoise.inversion.base import Inverter
from renoise.writer import InversionWriter

Predict = Callable[..., Any]
NAMES = [f"{number}.png" for number in range(5)]


def watched(watcher: str, path: Path) -> str:
    return f"--trainer.callbacks={json.dumps([{'class_path': watcher, 'init_args': {'path': str(path)}}])}"


def test_the_log_names_the_images_of_every_batch_written_or_not(
    tmp_path: Path, pictures: Callable[..., Path], predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, log = pictures(tmp_path / "photos", *NAMES), tmp_path / "log.jsonl"
    (root / "4.png").write_bytes(b"damaged")
    monkeypatch.setattr(InversionWriter, "write_on_batch_end", lambda *_: None)
    assert (
        predict(root, tmp_path / "out", "--data.batch_size=2", watched("benchmarks.callbacks.BatchLog", log)).status
        == 0
    )
    rows = [json.loads(line)["file_names"] for line in log.read_text().splitlines()]
    assert rows == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]


def test_waiting_is_what_lies_between_batches_and_working_what_lies_in_them(
    tmp_path: Path, pictures: Callable[..., Path], predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, found = pictures(tmp_path / "photos", *NAMES), tmp_path / "waits.json"
    invert, write = Inverter.invert, InversionWriter.write_on_batch_end

    def slowly(self: Inverter, *arguments: Any) -> Any:
        time.sleep(0.2)
        return invert(self, *arguments)

    def in_the_way(self: InversionWriter, *arguments: Any) -> None:
        time.sleep(0.3)
        write(self, *arguments)

    monkeypatch.setattr(Inverter, "invert", slowly)
    monkeypatch.setattr(InversionWriter, "write_on_batch_end", in_the_way)
    watch = watched("benchmarks.callbacks.NetworkWaits", found)
    assert predict(root, tmp_path / "out", "--data.batch_size=1", watch).status == 0
    seconds = json.loads(found.read_text())
    assert seconds["batches"] == 3, "from the third on"
    assert seconds["working"] >= 3 * 0.2
    assert seconds["waiting"] >= 2 * 0.3
    assert 0 < seconds["network"] < seconds["working"] - 3 * 0.2
