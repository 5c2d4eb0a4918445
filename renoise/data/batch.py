"""Batches of images in which every image keeps its name, also one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from renoise.data.records import ImageRecord


class LoadedImage(NamedTuple):
    """An image that was read.

    Args:
        record: The image's record.
        pixels: float32 [3, H, W] in [0, 1].
        sha256: Hash of the file's bytes, in hexadecimal.
        time_ids: SDXL's sizes and crop offsets, see `renoise.data.resizing.time_ids`.
    """

    record: ImageRecord
    pixels: Tensor
    sha256: str
    time_ids: tuple[int, ...]


FailedImage = tuple[ImageRecord, str]
"""An image that cannot be read, and the reason."""


class Encoded(NamedTuple):
    """B images as the autoencoder encodes them.

    Args:
        latents: z_0, [B, C, h, w].
        decoded: `latents` decoded: the autoencoder's own round trip, [B, 3, H, W] in [0, 1]. None where no metric of
            the run uses it.
    """

    latents: Tensor
    decoded: Tensor | None = None

    def select(self, index: Sequence[int]) -> Encoded:
        """Returns the images at these positions of the batch."""
        positions = torch.as_tensor(index, dtype=torch.int64, device=self.latents.device)
        return self.apply(lambda tensor: tensor[positions])

    def apply(self, function: Callable[[Tensor], Tensor]) -> Encoded:
        """Returns the same with a function applied to every tensor."""
        return Encoded(function(self.latents), None if self.decoded is None else function(self.decoded))


class ImageBatch:
    """B images of one size. B is 0 where none could be read.

    It is not a dataclass, because Lightning would convert a dataclass's tensors to half precision: the pixels that PSNR
    is measured on, and sizes that must be exact.

    Args:
        images: float32 [B, 3, H, W] in [0, 1].
        records: The records of the images, in the same order.
        sha256: Hash of each file's bytes, in hexadecimal.
        time_ids: SDXL's sizes and crop offsets in pixels, float32 [B, 6]; see `renoise.data.resizing.time_ids`.
        failures: The images of this batch that could not be read, each with the reason.
        encoded: The images as the model's autoencoder encodes them; None until they are encoded.

    Example:
        >>> from renoise.data import ImageFolderDataModule
        >>> data = ImageFolderDataModule("data/images", batch_size=2, resolution=64)
        >>> data.setup("predict")
        >>> batch = next(iter(data.predict_dataloader()))
        >>> batch.images.shape, len(batch.records), batch.failures
        (torch.Size([2, 3, 64, 64]), 2, [])
    """

    def __init__(
        self,
        images: Tensor,
        records: list[ImageRecord],
        sha256: list[str],
        time_ids: Tensor,
        failures: list[FailedImage],
        encoded: Encoded | None = None,
    ) -> None:
        self.images = images
        self.records = records
        self.sha256 = sha256
        self.time_ids = time_ids
        self.failures = failures
        self.encoded = encoded

    def select(self, index: Sequence[int]) -> ImageBatch:
        """Returns the images at these positions of the batch, without the failures."""
        positions = torch.as_tensor(index, dtype=torch.int64, device=self.images.device)
        return ImageBatch(
            images=self.images[positions],
            records=[self.records[position] for position in index],
            sha256=[self.sha256[position] for position in index],
            time_ids=self.time_ids[positions],
            failures=[],
            encoded=None if self.encoded is None else self.encoded.select(index),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """Returns the same batch with its tensors on `device`. Lightning moves batches by this method."""
        return self._apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """Returns the same batch with its tensors in pinned memory. `DataLoader(pin_memory=True)` calls this method."""
        return self._apply(lambda tensor: tensor.pin_memory())

    def _apply(self, function: Callable[[Tensor], Tensor]) -> ImageBatch:
        return ImageBatch(
            images=function(self.images),
            records=self.records,
            sha256=self.sha256,
            time_ids=function(self.time_ids),
            failures=self.failures,
            encoded=None if self.encoded is None else self.encoded.apply(function),
        )


def collate(items: Sequence[LoadedImage | FailedImage]) -> ImageBatch:
    """Returns the items of an `ImageDataset` as one batch.

    Args:
        items: Images of one size, and images that could not be read. Without any loaded image, `images` is
            [0, 3, 0, 0] and `time_ids` is [0, 6].
    """
    loaded = [item for item in items if isinstance(item, LoadedImage)]
    return ImageBatch(
        images=torch.stack([item.pixels for item in loaded]) if loaded else torch.empty(0, 3, 0, 0),
        records=[item.record for item in loaded],
        sha256=[item.sha256 for item in loaded],
        time_ids=torch.tensor([item.time_ids for item in loaded], dtype=torch.float32).reshape(len(loaded), 6),
        failures=[item for item in items if not isinstance(item, LoadedImage)],
    )
