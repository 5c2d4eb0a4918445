from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from renoise.data import ImageBatch
from renoise.data.prefetch import Prefetcher


def batch(items: list[int]) -> ImageBatch:
    return ImageBatch(torch.tensor(items), [], [], torch.empty(0, 6), [])


def loader(count: int) -> DataLoader[Any]:
    return DataLoader(range(count), batch_size=2, collate_fn=batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_batch_comes_once_in_order_and_prepared(count: int) -> None:
    def negative(each: ImageBatch) -> ImageBatch:
        each.images = -each.images
        return each

    prefetcher = Prefetcher(loader(count), negative)
    assert len(prefetcher) == (count + 1) // 2
    for _ in range(2):  # it can be iterated again
        images = [number for each in prefetcher for number in each.images.tolist()]
        assert images == [-number for number in range(count)]


def test_exactly_one_batch_is_prepared_while_another_is_used() -> None:
    prepared: list[int] = []
    reached = threading.Condition()

    def record(each: ImageBatch) -> ImageBatch:
        with reached:
            prepared.append(int(each.images[0]) // 2)
            reached.notify()
        return each

    for number, _ in enumerate(Prefetcher(loader(8), record)):
        with reached:
            expected = min(number + 2, 4)
            assert reached.wait_for(lambda expected=expected: len(prepared) >= expected, timeout=10)
            assert prepared == list(range(expected)), "one more batch would only use memory"


def test_an_error_is_raised_where_the_batch_is_requested() -> None:
    def fail(each: ImageBatch) -> ImageBatch:
        if each.images[0] == 2:
            raise RuntimeError("the second batch")
        return each

    batches = iter(Prefetcher(loader(6), fail))
    assert next(batches).images.tolist() == [0, 1]
    with pytest.raises(RuntimeError, match="the second batch"):
        next(batches)
