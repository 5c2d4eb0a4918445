"""Batches in which every image keeps its identity, those that could not be read included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class ImageSource(Protocol):
    """An image that is no file of its own: a member of an archive, a cell of a table."""

    def read(self) -> bytes:
        """The bytes of the image file.

        Raises:
            UnreadableImageError, OSError: they cannot be had.
        """


@dataclass(frozen=True)
class ImageRecord:
    """What is known of an image before it is opened.

    Args:
        file_name: path relative to the root, with slashes and its suffix; always printable.
        source: where to read it: a file, or what else knows how to.
        prompt: what it shows; None where a captioner has yet to say so.
        edit_prompt: what an edit shall show, if anything.
        extra: the further columns of its row in `metadata.jsonl`.
        error: why it shall not be opened.
    """

    file_name: str
    source: Path | ImageSource
    prompt: str | None
    edit_prompt: str | None
    extra: dict[str, object]
    error: str | None = None


class LoadedImage(NamedTuple):
    """An image that was read; `pixels` [3, H, W], `sha256` and the six `time_ids` are those of `ImageContent`."""

    record: ImageRecord
    pixels: Tensor
    sha256: str
    time_ids: tuple[int, ...]


FailedImage = tuple[ImageRecord, str]
"""An image that could not be read, and why."""


class Encoded(NamedTuple):
    """What an autoencoder makes of B images.

    Args:
        latents: [B, C, h, w].
        psnr_vae: of its own round trip, the ceiling of every reconstruction, in dB, [B].
    """

    latents: Tensor
    psnr_vae: Tensor

    def select(self, index: Tensor) -> Encoded:
        """Those of the images at these positions, int64 [n]."""
        return Encoded(self.latents[index], self.psnr_vae[index])


class ImageBatch:
    """B images of one size; B is 0 where none could be read.

    Not a dataclass: Lightning would look inside, and turn the pixels that PSNR is measured on, and sizes that have to
    be exact, to half precision.

    Args:
        images: float32 [B, 3, H, W] in [0, 1].
        records: whose images these are, in the same order.
        sha256: of each file's bytes, in hexadecimal.
        time_ids: SDXL's sizes and crop offsets in pixels, float32 [B, 6]; see `renoise.data.resizing.time_ids`.
        failures: the images of this batch that could not be read, each with the reason.
        encoded: what the model's autoencoder makes of them, where it has been asked already.
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
        self.images, self.records, self.sha256 = images, records, sha256
        self.time_ids, self.failures, self.encoded = time_ids, failures, encoded

    def select(self, rows: Sequence[int]) -> ImageBatch:
        """The images at these positions, without those that could not be read."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.images.device)
        return ImageBatch(
            images=self.images[index],
            records=[self.records[row] for row in rows],
            sha256=[self.sha256[row] for row in rows],
            time_ids=self.time_ids[index],
            failures=[],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """The same batch with its tensors on `device`; Lightning moves batches by this method."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """The same batch with its tensors in page-locked memory; `DataLoader(pin_memory=True)` calls this method."""
        return self._moved(lambda tensor: tensor.pin_memory())

    def _moved(self, move: Callable[[Tensor], Tensor]) -> ImageBatch:
        encoded = None if self.encoded is None else Encoded(*map(move, self.encoded))
        return ImageBatch(move(self.images), self.records, self.sha256, move(self.time_ids), self.failures, encoded)


def collate(items: Sequence[LoadedImage | FailedImage]) -> ImageBatch:
    """Joins what a data set returned, one item per image.

    Without any loaded image, `images` is [0, 3, 0, 0] and `time_ids` is [0, 6].
    """
    loaded = [item for item in items if isinstance(item, LoadedImage)]
    return ImageBatch(
        images=torch.stack([item.pixels for item in loaded]) if loaded else torch.empty(0, 3, 0, 0),
        records=[item.record for item in loaded],
        sha256=[item.sha256 for item in loaded],
        time_ids=torch.tensor([item.time_ids for item in loaded], dtype=torch.float32).reshape(len(loaded), 6),
        failures=[item for item in items if not isinstance(item, LoadedImage)],
    )
