"""Callbacks that note what a run does, for whoever measures it: `--trainer.callbacks benchmarks.callbacks.BatchLog`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L

from renoise.module import ReNoiseModule
from renoise.outputs.image_result import ImageResult
from renoise.utils.jsonl import JsonLines


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
    """Measures how long the network waits: between batches, and within them while something else is computed.

    Args:
        path: of a JSON file with `batches` and seconds, from the third batch on: the first has nothing before it that
            it could be made ready behind, and caches and libraries warm up. `working` is spent on batches, `waiting`
            between them (for images, captions, latents and files), `network` in the UNet, which on a GPU, whose work
            goes on behind the calls, says nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batches = 0
        self._working = self._waiting = self._network = 0.0
        self._since = self._called = time.perf_counter()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listens to the UNet."""
        unet = cast(ReNoiseModule, pl_module).model.unet

        def call(*_: Any) -> None:
            self._called = time.perf_counter()

        def done(*_: Any) -> None:
            self._network += time.perf_counter() - self._called

        self._hooks = [unet.register_forward_pre_hook(call), unet.register_forward_hook(done)]

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The wait is over."""
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
        """It begins; what the callbacks after this one do counts."""
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
