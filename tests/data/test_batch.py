from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from renoise.data.batch import ImageBatch, ImageRecord, LoadedImage, collate


def record(name: str) -> ImageRecord:
    """A record that nothing is known of but its name."""
    return ImageRecord(name, Path("root", name), "", None, {})


def mixed_batch() -> ImageBatch:
    """Two images around one that could not be read."""
    return collate(
        [
            LoadedImage(record("a"), torch.zeros(3, 4, 4), "0a", (4, 6, 0, 1, 4, 4)),
            (record("b"), "broken"),
            LoadedImage(record("c"), torch.ones(3, 4, 4), "0c", (4999, 4097, 0, 0, 4, 4)),
        ]
    )


def test_images_keep_their_identity_beside_a_failure() -> None:
    batch = mixed_batch()
    assert batch.images.shape == (2, 3, 4, 4)
    assert batch.images.mean((1, 2, 3)).tolist() == [0, 1]
    assert [r.file_name for r in batch.records] == ["a", "c"]
    assert batch.sha256 == ["0a", "0c"]
    assert batch.time_ids.dtype == torch.float32
    assert batch.time_ids.tolist() == [[4, 6, 0, 1, 4, 4], [4999, 4097, 0, 0, 4, 4]]
    assert batch.failures == [(record("b"), "broken")]


def test_a_batch_of_failures_holds_no_images() -> None:
    batch = collate([(record("a"), "broken"), (record("b"), "gone")])
    assert batch.images.shape == (0, 3, 0, 0)
    assert batch.images.dtype == torch.float32
    assert batch.time_ids.shape == (0, 6)
    assert batch.time_ids.dtype == torch.float32
    assert (batch.records, batch.sha256, len(batch.failures)) == ([], [], 2)


def test_lightning_moves_the_tensors_and_keeps_the_rest() -> None:
    batch = mixed_batch()
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, ImageBatch)
    assert moved.images.device.type == moved.time_ids.device.type == "meta"
    assert moved.images.shape == batch.images.shape
    assert moved.time_ids.shape == batch.time_ids.shape
    assert moved.records is batch.records
    assert moved.failures is batch.failures
    assert moved.sha256 is batch.sha256
    assert batch.images.device.type == batch.time_ids.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="memory is pinned for CUDA")
def test_pinning_keeps_the_batch() -> None:
    batch = mixed_batch().pin_memory()
    assert batch.images.is_pinned()
    assert batch.time_ids.is_pinned()
    assert batch.time_ids[:, 0].tolist() == [4, 4999]
    assert batch.sha256 == ["0a", "0c"]


def test_some_rows_are_the_same_images_without_the_failures() -> None:
    batch = mixed_batch().select([1])
    assert batch.images.mean((1, 2, 3)).tolist() == [1]
    assert [each.file_name for each in batch.records] == ["c"]
    assert (batch.sha256, batch.failures) == (["0c"], [])
    assert batch.time_ids.tolist() == [[4999, 4097, 0, 0, 4, 4]]
