"""The base class of all data sets: their images, shared among processes, as batches for `predict`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor
from torch.utils.data import DataLoader

from renoise.data.batch import ImageBatch, collate
from renoise.data.batch_captioner import BatchCaptioner
from renoise.data.captioner import CaptionerConfig
from renoise.data.files import UnreadableImageError, check_folder
from renoise.data.given_texts import with_texts
from renoise.data.image_dataset import ImageDataset, load_image
from renoise.data.image_memory import MAX_MEMORY
from renoise.data.images import read_size
from renoise.data.prefetch import Prefetcher
from renoise.data.records import ImageRecord, check_same_in_all_processes
from renoise.data.resizing import Fit, Resize, batches_of_one_size, bucket
from renoise.errors import InputError
from renoise.utils.configurable import Configurable, describe
from renoise.utils.distributed import raise_together
from renoise.utils.files import real_path

NOT_SETTINGS = {"batch_size", "num_workers", "max_image_memory", "limit"}
"""Arguments that the results of an image do not depend on."""


class ImagesDataModule(Configurable, L.LightningDataModule, ABC):
    """A data set of images. A subclass implements `find_records`, which lists them.

    Args:
        root: The folder that contains the data set, or a single picture.
        batch_size: Number of images that are inverted together.
        num_workers: Number of processes that read images; 0 reads them in a thread.
        resolution: Side in pixels of the square that images are brought to.
        resize: How images are brought to it: crop, stretch, pad or bucket. Crop takes the middle square, stretch
            changes the shape of the image, pad puts white margins around it. Bucket crops to the shape nearest to the
            image's, out of several with about as many pixels as the square; a batch has one shape.
        prompt: Prompt of images without a text.
        edit_text: Edit prompt of images that have none.
        use_text: Whether images have the data set's texts. Without, all have `prompt` or a caption.
        captioner: A BLIP-2 that captions images without a text; null gives them `prompt`.
        max_image_memory: Memory in MiB that reading one image may take, in each worker; larger images fail.
        limit: Number of images, the first of the data set. Null takes all.

    Raises:
        InputError: An argument is wrong. The message begins with its name.

    Example:
        >>> from pathlib import Path
        >>> from renoise.data import ImageRecord, ImagesDataModule
        >>> class JPEGs(ImagesDataModule):
        ...     def find_records(self):
        ...         return [ImageRecord(path.name, path) for path in sorted(self.root.glob("*.jpg"))]
        >>> data = JPEGs("data/photographs", resolution=64)
        >>> data.setup("predict")
        >>> data.records[0].file_name
        'astronaut.jpg'
    """

    records: list[ImageRecord]
    """All images of the data set up to its `limit`, after `setup`."""

    def __init__(
        self,
        root: str | PathLike[str],
        batch_size: int = 4,
        num_workers: int = 0,
        resolution: int = 512,
        resize: Resize = "crop",
        prompt: str = "",
        edit_text: str | None = None,
        use_text: bool = True,
        captioner: CaptionerConfig | None = None,
        max_image_memory: int = MAX_MEMORY,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("resolution", resolution, 8),
            ("max_image_memory", max_image_memory, 1),
            ("limit", 1 if limit is None else limit, 1),
        ):
            if value < least:
                raise InputError(f"{name} must be {least} or more, got {value}")
        if captioner is not None and prompt:
            raise InputError(f"prompt must be empty where there is a captioner, got {prompt!r}; leave out one of them")
        self.root = Path(root).expanduser()
        self.batch_size, self.num_workers = batch_size, num_workers
        self.resolution, self.resize = resolution, resize
        self.prompt, self.edit_text, self.use_text, self.captioner = prompt, edit_text, use_text, captioner
        self.max_image_memory, self.limit = max_image_memory, limit
        self.size_multiple = 8
        self._prepare: Callable[[ImageBatch], ImageBatch] | None = None
        self._batch_captioner: BatchCaptioner | None = None
        self.allow_zero_length_dataloader_with_multiple_devices = True  # there may be fewer images than processes

    @property
    def settings(self) -> dict[str, Any]:
        """The class and the arguments that the results depend on, in JSON types. Paths that exist are real paths."""
        captioner = self.captioner and replace(self.captioner, checkpoint=real_path(self.captioner.checkpoint))
        arguments = self.init_args | {
            "root": real_path(str(self.root)),
            "resolution": self.resolution,
            "resize": self.resize,
            "prompt": self.prompt,
            "captioner": captioner,
        }
        kept = {name: value for name, value in arguments.items() if name not in NOT_SETTINGS}
        return {"class_path": describe(self)["class_path"], **describe(kept)}

    @property
    def output_folder(self) -> Path | None:
        """The Trainer's `default_root_dir`; None where no Trainer uses the data module."""
        return Path(self.trainer.default_root_dir) if self.trainer else None

    def check_root(self) -> None:
        """Raises InputError where `root` is not a folder. A data set that is something else overrides this."""
        check_folder(self.root, "data.root")

    @abstractmethod
    def find_records(self) -> list[ImageRecord]:
        """Returns all images of the data set, each name once, without opening them. The order decides that of batches.

        Raises:
            InputError: There are none, or the files that list them cannot be read.
        """

    def connect(self, size_multiple: int, prepare: Callable[[ImageBatch], ImageBatch] | None) -> None:
        """Hands over what is known once the model is loaded.

        Args:
            size_multiple: Height and width of images must be multiples of this.
            prepare: Prepares a batch in a thread while the batch before it is inverted. None where that cannot be.

        Raises:
            InputError: `resolution` is not a multiple of `size_multiple`.
        """
        if self.resolution % size_multiple:
            below = self.resolution // size_multiple * size_multiple
            nearest = " or ".join(str(side) for side in (below, below + size_multiple) if side)
            raise InputError(
                f"data.resolution must be a multiple of {size_multiple}, got {self.resolution}; set it to {nearest}"
            )
        self.size_multiple, self._prepare = size_multiple, prepare

    def setup(self, stage: str) -> None:
        """Lists the images in `records`, with known captions, and loads the captioner where captions are missing.

        Raises:
            InputError: In one of the processes the folder does not exist, contains no images, or contains other images
                than in the first process; or the captioner cannot be loaded.
        """
        with raise_together():
            self.check_root()
            self.records = self.find_records()[: self.limit]
        with raise_together():
            check_same_in_all_processes(self.records, self.root)
        prompt = self.prompt if self.captioner is None else None
        self.records = with_texts(self.records, self.use_text, prompt, self.edit_text)
        if self.captioner is not None and self.output_folder is not None:
            self._batch_captioner = BatchCaptioner(self.captioner, self.output_folder, self._rank)
            self.records = self._batch_captioner.add_known_captions(self.records)
        self._remaining = self.records
        self._by_name = {record.file_name: record for record in self.records}

    def teardown(self, stage: str) -> None:
        """Merges the captions of all processes into one file, after all have finished."""
        if self._batch_captioner is not None:
            self._batch_captioner.close()

    def exclude(self, names: Container[str]) -> None:
        """Leaves images out of `predict_dataloader`, because an earlier run has finished them.

        Args:
            names: File names of images.
        """
        self._remaining = [record for record in self._remaining if record.file_name not in names]

    def predict_dataloader(self) -> Prefetcher:
        """Returns this process's share of the images, in batches of type `ImageBatch`."""
        world_size = self.trainer.world_size if self.trainer else 1
        records = self._remaining[self._rank :: world_size]
        sizes = [self._target_size(record) for record in records]
        if self._batch_captioner is not None:
            self._batch_captioner.expect(records)
        loader = DataLoader(
            ImageDataset(records, sizes, self._fit, self.max_image_memory),
            batch_sampler=batches_of_one_size(sizes, self.batch_size),
            num_workers=self.num_workers,
            collate_fn=collate,
        )
        return Prefetcher(loader, self._prepare_ahead)

    def _prepare_ahead(self, batch: ImageBatch) -> ImageBatch:
        must_wait = self._batch_captioner is not None and self._batch_captioner.must_wait
        return batch if self._prepare is None or must_wait else self._prepare(batch)

    def on_after_batch_transfer(self, batch: ImageBatch, dataloader_idx: int) -> ImageBatch:
        """Captions the images of the batch that have no prompt."""
        if self._batch_captioner is not None:
            self._batch_captioner.caption(batch)
        return batch

    def original(self, file_name: str) -> Tensor:
        """Reads one image again and returns it as its batch has it, float32 [3, H, W] in [0, 1].

        Args:
            file_name: Name of the image.

        Raises:
            UnreadableImageError: The image cannot be read or no longer exists.
        """
        if (record := self._by_name.get(file_name)) is None:
            raise UnreadableImageError(f"{file_name} is not in {self.root}")
        return load_image(record, self._target_size(record), self._fit, self.max_image_memory).pixels

    def mask(self, file_name: str) -> Tensor | None:
        """Returns where an image may be edited, bool [H, W] at its target size. None where the image has no mask.

        Args:
            file_name: Name of the image.

        Raises:
            InputError: The mask cannot be read, or does not fit the image.
        """
        return None

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _fit(self) -> Fit:
        return "crop" if self.resize == "bucket" else self.resize

    def _target_size(self, record: ImageRecord) -> tuple[int, int]:
        size = read_size(record.source) if self.resize == "bucket" and record.error is None else None
        square = self.resolution, self.resolution
        return square if size is None else bucket(*size, self.resolution, self.size_multiple)
