from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from renoise.data.batch import Encoded, ImageBatch, LoadedImage, collate
from renoise.data.records import ImageRecord


def record(name: str) -> ImageRecord:
    return ImageRecord(name, Path("root", name))


def mixed_batch() -> ImageBatch:
    """Returns a batch of two images with an unreadable one between them."""
    return collate(
        [
            LoadedImage(record("a"), torch.zeros(3, 4, 4), "0a", (4, 6, 0, 1, 4, 4)),
            (record("b"), "broken"),
            LoadedImage(record("c"), torch.ones(3, 4, 4), "0c", (4999, 4097, 0, 0, 4, 4)),
        ]
    )


def test_images_keep_their_names_beside_a_failure() -> None:
    batch = mixed_batch()
    assert batch.images.shape == (2, 3, 4, 4)
    assert batch.images.mean((1, 2, 3)).tolist() == [0, 1]
    assert [r.file_name for r in batch.records] == ["a", "c"]
    assert batch.sha256 == ["0a", "0c"]
    assert batch.time_ids.dtype == torch.float32
    assert batch.time_ids.tolist() == [[4, 6, 0, 1, 4, 4], [4999, 4097, 0, 0, 4, 4]]
    assert batch.failures == [(record("b"), "broken")]


def test_a_batch_of_failures_has_no_images() -> None:
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


def test_select_returns_images_without_the_failures() -> None:
    batch = mixed_batch().select([1])
    assert batch.images.mean((1, 2, 3)).tolist() == [1]
    assert [each.file_name for each in batch.records] == ["c"]
    assert (batch.sha256, batch.failures) == (["0c"], [])
    assert batch.time_ids.tolist() == [[4999, 4097, 0, 0, 4, 4]]
    assert batch.encoded is None


def test_select_and_to_include_the_encoded_images() -> None:
    batch = mixed_batch()
    batch.encoded = Encoded(torch.arange(2.0).reshape(2, 1, 1, 1), torch.rand(2, 3, 4, 4))
    selected = batch.select([1, 0, 1]).encoded
    assert selected is not None
    assert selected.latents.flatten().tolist() == [1, 0, 1]
    assert torch.equal(selected.decoded, batch.encoded.decoded[[1, 0, 1]])
    moved = batch.to("meta").encoded
    assert moved is not None
    assert moved.latents.device.type == moved.decoded.device.type == "meta"
