"""Callbacks that note what a run does, for whoever measures it: `--trainer.callbacks renoise.watchers.BatchLog`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from renoise.json_lines import JsonLines
from renoise.results import ImageResult


class BatchLog(L.Callback):
    """Notes the images of every batch that has been inverted, before they are written.

    Args:
        path: of a file of JSON lines; every process of a run adds to one of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a line with their names."""
        results: Sequence[ImageResult] = outputs
        names = [result.row["file_name"] for result in results]
        JsonLines(self.path, trainer.global_rank).append([{"file_names": names}])


class NetworkWaits(L.Callback):
    """Measures how long inversion waits between batches: for images, captions, latents, and files to be written.

    Args:
        path: of a JSON file with `batches`, and the seconds `working` and `waiting`, from the third batch on: the first
            has nothing before it that it could be made ready behind, and caches and libraries warm up.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batches = 0
        self._working = self._waiting = 0.0
        self._since = time.perf_counter()

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The wait is over."""
        now = time.perf_counter()
        self._waiting += now - self._since if batch_idx > 2 else 0.0
        self._since = now

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """It begins; what the callbacks after this one do counts."""
        now = time.perf_counter()
        self._working += now - self._since if batch_idx > 1 else 0.0
        self._batches += batch_idx > 1
        self._since = now

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what was measured."""
        found = {"batches": self._batches, "working": self._working, "waiting": self._waiting}
        self.path.write_text(json.dumps(found))
