"""What all data sets have in common: their images, shared among processes, as batches for `predict`."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Container
from dataclasses import replace
from os import PathLike
from pathlib import Path

import lightning as L
from torch import Tensor
from torch.utils.data import DataLoader

from renoise.data.batch import ImageBatch, ImageRecord, collate
from renoise.data.captioner import Captioner, Captioning
from renoise.data.captions import Captions
from renoise.data.image_dataset import ImageDataset, load_image
from renoise.data.images import UnreadableImageError, read_size
from renoise.data.prefetch import Prefetcher
from renoise.data.resizing import Fit, Resize, batches_of_one_frame, bucket
from renoise.errors import InputError, InputWarning
from renoise.utils.distributed import all_gather, broadcast, raise_together


class ImagesDataModule(L.LightningDataModule):
    """A data set of images; those to come say in `find_records` which they are.

    Args:
        root: the folder that holds the data set.
        batch_size: images inverted together.
        num_workers: processes that read images ahead; 0 reads them in a thread.
        resolution: side of the square, in pixels, that images are brought to.
        resize: crop (the middle square), stretch (all of the image), pad (all of it in its own shape, between white
            margins), or bucket (of several shapes of about as many pixels the nearest to the image's, its middle; a
            batch has one shape).
        prompt: for images without text.
        captioner: a BLIP-2 that says what images without text show; null leaves them with the prompt.
    """

    records: list[ImageRecord]

    def __init__(
        self,
        root: str | PathLike[str],
        batch_size: int = 4,
        num_workers: int = 0,
        resolution: int = 512,
        resize: Resize = "crop",
        prompt: str = "",
        captioner: Captioning | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("resolution", resolution, 8),
        ):
            if value < least:
                raise InputError(f"data.{name} must be {least} or more, but is {value}")
        if captioner is not None and prompt:
            one_of_them = "images without text take one of them (--data.captioner null is none)"
            raise InputError(f"data.prompt is {prompt!r}, beside a data.captioner; {one_of_them}")
        self.root = Path(root).expanduser()
        self.batch_size, self.num_workers = batch_size, num_workers
        self.prompt = None if captioner is not None else prompt
        """Of images without text; None where a captioner is to say it."""
        self.resolution, self.resize, self.captioning = resolution, resize, captioner
        self.captioner: Captioner | None = None
        self.size_multiple = 8
        """What the model asks of the sides of buckets; whoever knows the model sets it."""
        self.prepare: Callable[[ImageBatch], ImageBatch] = lambda batch: batch
        """What can be done with a batch while the one before is inverted; whoever knows the model sets it."""
        # Fewer images than processes is fine.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    @abstractmethod
    def find_records(self) -> list[ImageRecord]:
        """All images of the data set, in an order of their own, each name once; none is opened.

        Raises:
            InputError: there are none, or what says which they are cannot be read.
        """

    def setup(self, stage: str) -> None:
        """Lists the images in `records`, with the captions that are known, and loads the captioner where some are not.

        Raises:
            InputError: a process finds no folder, no images in it, or others than the first process finds; the
                captioner cannot be loaded.
        """
        with raise_together():
            if not os.path.isdir(self.root):
                problem = "is not a folder" if os.path.lexists(self.root) else "does not exist"
                raise InputError(f"data.root: {self.root} {problem}")
            self.records = self.find_records()
        with raise_together():
            _check_that_all_see_the_same(self.records, self.root)
        if self.captioning is not None and self.trainer is not None:
            self._set_up_captions(self.captioning, Path(self.trainer.default_root_dir))
        self._to_do = self.records

    def _set_up_captions(self, captioning: Captioning, folder: Path) -> None:
        self.captions = Captions(folder, self._rank)
        known: dict[str, str] = {}
        with raise_together():
            if self._rank == 0:
                self.captions.gather()
                known = self.captions.read()
        known = broadcast(known)
        self.records = [
            replace(record, prompt=known.get(record.file_name)) if record.prompt is None else record
            for record in self.records
        ]
        with raise_together():
            if any(record.prompt is None and record.error is None for record in self.records):
                self.captioner = Captioner(captioning)

    def teardown(self, stage: str) -> None:
        """Brings the captions of all processes into one file, once all have finished."""
        if hasattr(self, "captions"):
            all_gather(None)
            if self._rank == 0:
                self.captions.gather()

    def exclude(self, file_names: Container[str]) -> None:
        """Leaves these out of `predict_dataloader`, because they have been done before."""
        self._to_do = [record for record in self._to_do if record.file_name not in file_names]

    def predict_dataloader(self) -> Prefetcher:
        """The images that fall to this process, in batches of type `ImageBatch`."""
        world_size = self.trainer.world_size if self.trainer else 1
        records = self._to_do[self._rank :: world_size]
        frames = [self._frame(record) for record in records]
        images = ImageDataset(records, frames, self._fit)
        batches = batches_of_one_frame(frames, self.batch_size)
        loader = DataLoader(images, batch_sampler=batches, num_workers=self.num_workers, collate_fn=collate)
        self._to_caption = {record.file_name for record in records if record.prompt is None}
        return Prefetcher(loader, self._made_ready)

    def _made_ready(self, batch: ImageBatch) -> ImageBatch:
        """All that can be done with a batch before its turn, while the network works on another."""
        return batch if self.captioner is not None and self.captioner.is_in_the_way else self.prepare(batch)

    def on_after_batch_transfer(self, batch: ImageBatch, dataloader_idx: int) -> ImageBatch:
        """Captions the images of the batch that have no text, all at once, on the device that they are on.

        The captioner is freed with the last of them.
        """
        rows = [row for row, record in enumerate(batch.records) if record.prompt is None]
        if self.captioner is None:
            return batch
        if rows:
            captions = self.captioner(batch.images[rows])
            self.captions.append(
                {"file_name": batch.records[row].file_name, "text": caption}
                for row, caption in zip(rows, captions, strict=True)
            )
            for row, caption in zip(rows, captions, strict=True):
                batch.records[row] = replace(batch.records[row], prompt=caption)
                if not caption:
                    name = batch.records[row].file_name
                    warnings.warn(f"{name}: the captioner finds no words; its prompt is empty", InputWarning, 2)
        self._to_caption -= {record.file_name for record in batch.records}
        self._to_caption -= {record.file_name for record, _ in batch.failures}
        if not self._to_caption:
            self.captioner = None
        return batch

    def original(self, file_name: str) -> Tensor:
        """One image as its batch holds it, float32 [3, H, W] in [0, 1], read anew.

        Raises:
            UnreadableImageError: it cannot be read, or is no longer there.
        """
        for record in self.records:
            if record.file_name == file_name:
                return load_image(record, self._frame(record), self._fit).pixels
        raise UnreadableImageError(f"{file_name} is not in {self.root}")

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _fit(self) -> Fit:
        return "crop" if self.resize == "bucket" else self.resize

    def _frame(self, record: ImageRecord) -> tuple[int, int]:
        """Height and width that an image is brought to."""
        size = read_size(record.source) if self.resize == "bucket" and record.error is None else None
        return (
            (self.resolution, self.resolution) if size is None else bucket(*size, self.resolution, self.size_multiple)
        )


def _check_that_all_see_the_same(records: list[ImageRecord], root: Path) -> None:
    """Raises InputError where this process lists other images than the first: shares would overlap, or leave some out.

    Machines that share a folder may see it at different moments, or not share it at all.
    """
    names = "\n".join(record.file_name for record in records)
    mine = len(records), hashlib.sha256(names.encode("utf-8", "backslashreplace")).hexdigest()
    first = broadcast(mine)
    if first != mine:
        raise InputError(f"data.root: {root} holds {len(records)} images here, others than the {first[0]} of process 0")
