"""Callbacks that record what a run does: `--trainer.callbacks benchmarks.callbacks.BatchLog`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning as L


class BatchLog(L.Callback):
    """Records the images of every batch once it is inverted, before it is written.

    Args:
        path: A file of JSON lines. All processes of a run append to it.
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
        """Appends a line with the names of the batch's images."""
        names = [result.row["file_name"] for result in outputs]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"file_names": names}) + "\n")


class NetworkWaits(L.Callback):
    """Measures how long the network waits: between batches, and inside them while something else is computed.

    The first two batches are not measured. Nothing could be prepared before the first, and libraries warm up.

    Args:
        path: A JSON file with `batches` and seconds: `working` inside batches, `waiting` between them (for images,
            captions, latents and files), `network` inside the network. On a GPU `network` means nothing, because its
            work continues after the call returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batches = 0
        self._working = self._waiting = self._network = 0.0
        self._since = self._called = time.perf_counter()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins to time the network's calls."""
        network: Any = pl_module.model.network  # type: ignore[union-attr]

        def call(*_: Any) -> None:
            self._called = time.perf_counter()

        def done(*_: Any) -> None:
            self._network += time.perf_counter() - self._called

        self._hooks = [network.register_forward_pre_hook(call), network.register_forward_hook(done)]

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Ends a wait."""
        now = time.perf_counter()
        self._waiting += now - self._since if batch_idx > 2 else 0.0
        if batch_idx == 2:
            self._network = 0.0
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
        """Begins a wait. The callbacks after this one are part of it."""
        now = time.perf_counter()
        self._working += now - self._since if batch_idx > 1 else 0.0
        self._batches += batch_idx > 1
        self._since = now

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what was measured."""
        for hook in self._hooks:
            hook.remove()
        seconds = {"working": self._working, "waiting": self._waiting, "network": self._network}
        self.path.write_text(json.dumps({"batches": self._batches, **seconds}))
