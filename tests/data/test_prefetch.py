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
def test_every_batch_comes_once_in_order_and_ready(count: int) -> None:
    def negative(each: ImageBatch) -> ImageBatch:
        each.images = -each.images
        return each

    ahead = Prefetcher(loader(count), negative)
    assert len(ahead) == (count + 1) // 2
    for _ in range(2):  # it can be gone through again
        images = [number for each in ahead for number in each.images.tolist()]
        assert images == [-number for number in range(count)]


def test_a_batch_is_made_ready_while_the_one_before_is_used_and_none_further() -> None:
    prepared: list[int] = []
    reached = threading.Condition()

    def note(each: ImageBatch) -> ImageBatch:
        with reached:
            prepared.append(int(each.images[0]) // 2)
            reached.notify()
        return each

    for number, _ in enumerate(Prefetcher(loader(8), note)):
        with reached:
            wanted = min(number + 2, 4)
            assert reached.wait_for(lambda wanted=wanted: len(prepared) >= wanted, timeout=10)
            assert prepared == list(range(wanted)), "one batch more would only take memory"


def test_what_goes_wrong_is_raised_where_the_batch_is_asked_for() -> None:
    def fail(each: ImageBatch) -> ImageBatch:
        if each.images[0] == 2:
            raise RuntimeError("the second batch")
        return each

    batches = iter(Prefetcher(loader(6), fail))
    assert next(batches).images.tolist() == [0, 1]
    with pytest.raises(RuntimeError, match="the second batch"):
        next(batches)
