"""Batches made ready while the one before is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader

from renoise.data.batch import ImageBatch


class Prefetcher:
    """The batches of a loader; each is read and made ready in a thread, while the network has the one before.

    Args:
        loader: gives the batches.
        prepare: makes one ready; what it raises is raised where the batch is asked for.
    """

    def __init__(self, loader: DataLoader[Any], prepare: Callable[[ImageBatch], ImageBatch]) -> None:
        self.loader, self.prepare = loader, prepare

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[ImageBatch]:
        batches = iter(self.loader)

        def following() -> ImageBatch | None:
            batch = next(batches, None)
            return None if batch is None else self.prepare(batch)

        with ThreadPoolExecutor(1, "ahead") as thread:
            coming = thread.submit(following)
            while (batch := coming.result()) is not None:
                coming = thread.submit(following)
                yield batch
