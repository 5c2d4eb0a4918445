"""Prepares the next batch while the current one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader

from renoise.data.batch import ImageBatch


class Prefetcher:
    """The batches of a loader. A thread reads and prepares one batch while the caller uses the batch before it.

    Args:
        loader: The batches.
        prepare: Prepares a batch. Its errors are raised where the batch is requested.
    """

    def __init__(self, loader: DataLoader[Any], prepare: Callable[[ImageBatch], ImageBatch]) -> None:
        self.loader, self.prepare = loader, prepare

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[ImageBatch]:
        batches = iter(self.loader)

        def next_batch() -> ImageBatch | None:
            batch = next(batches, None)
            return None if batch is None else self.prepare(batch)

        with ThreadPoolExecutor(1, "prefetch") as thread:
            pending = thread.submit(next_batch)
            while (batch := pending.result()) is not None:
                pending = thread.submit(next_batch)
                yield batch
