"""The progress of a run: a bar of batches and one of steps on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from torch.utils.hooks import RemovableHandle

SECONDS_BETWEEN_LINES = 60


class StepProgressBar(RichProgressBar):
    """Lightning's bar of batches, and below it a bar of the loop that runs, with the calls of the network so far.

    Give `track` to `renoise.utils.progress.show_progress`, whose loops are then shown.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, console_kwargs={"stderr": True})
        self.calls = 0
        self._hook: RemovableHandle | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts to count the calls of the network."""
        super().on_predict_start(trainer, pl_module)
        if self.is_enabled:
            self._hook = pl_module.model.network.register_forward_pre_hook(self._count)  # type: ignore[union-attr]

    def on_predict_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Counts each batch from 0."""
        self.calls = 0
        super().on_predict_batch_start(*args, **kwargs)

    def track(self, items: Sequence[Any], description: str) -> Iterator[Any]:
        """Yields the items of a loop, and shows how many are done and how long the others will take."""
        if self.progress is None:  # no batch has begun
            yield from items
            return
        task = self.progress.add_task(self._text(description), total=len(items))
        try:
            for item in items:
                yield item
                self.progress.update(task, advance=1, description=self._text(description))
                self.refresh()
        finally:
            self.progress.remove_task(task)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Stops counting."""
        if self._hook is not None:
            self._hook.remove()
        super().teardown(trainer, pl_module, stage)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def _text(self, description: str) -> str:
        return f"{description} ({self.calls} calls)"


class ProgressLines(ProgressBar):
    """Prints a line to stderr after a batch, at most one a minute: short runs print nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True

    def disable(self) -> None:
        """Prints nothing from now on. Lightning calls it in all processes but the first."""
        self.is_enabled = False

    def enable(self) -> None:
        """Prints lines from now on."""
        self.is_enabled = True

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self.started = self.printed = time.monotonic()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Prints how many batches are done, and how long the others will take."""
        now, done, total = time.monotonic(), batch_idx + 1, trainer.num_predict_batches[0]
        if not self.is_enabled or now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        left = (now - self.started) * (total - done) / done
        print(f"{done} of {total} batches, about {timedelta(seconds=round(left))} left", file=sys.stderr, flush=True)
