"""A folder of images, with or without `metadata.jsonl`, as batches for `predict`."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from os import PathLike
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from renoise.datamodules.batch import FailedImage, ImageRecord, LoadedImage, collate
from renoise.datamodules.frames import Fit, Resize, bucket
from renoise.datamodules.images import UnreadableImageError, read_image, read_size, suffixes
from renoise.datamodules.metadata import METADATA_NAME, printable, read_metadata
from renoise.errors import InputError, InputWarning


class ImageFolderDataModule(L.LightningDataModule):
    """All images in a folder and the folders inside it.

    Rows of `metadata.jsonl` give images their prompts: {"file_name": "sub/cat.jpg", "text": "a cat on a sofa",
    "edit_text": "a dog on a sofa"}. Only "file_name" is required. Hidden files and the run's own output are left out.

    Args:
        root: the folder, searched recursively.
        batch_size: images inverted together.
        num_workers: processes that read images ahead; 0 reads them in the main process.
        resolution: side of the square, in pixels, that images are brought to.
        resize: crop (the middle square), stretch (all of the image), pad (all of it in its own shape, between white
            margins), or bucket (of several shapes of about as many pixels the nearest to the image's, its middle; a
            batch has one shape).
        prompt: for images that `metadata.jsonl` gives no text.
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
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("resolution", resolution, 8),
        ):
            if value < least:
                raise InputError(f"data.{name} must be {least} or more, but is {value}")
        self.root = Path(root).expanduser()
        self.batch_size, self.num_workers, self.prompt = batch_size, num_workers, prompt
        self.resolution, self.resize = resolution, resize
        self.size_multiple = 8
        """What the model asks of the sides of buckets; whoever knows the model sets it."""
        # Fewer images than processes is fine.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def setup(self, stage: str) -> None:
        """Lists the images in `records`, sorted by name, without opening any.

        Raises:
            InputError: no such folder, nothing in it, or a metadata file that cannot be read.
        """
        if not os.path.isdir(self.root):
            problem = "is not a folder" if os.path.lexists(self.root) else "does not exist"
            raise InputError(f"data.root: {self.root} {problem}")
        output = self.trainer.default_root_dir if self.trainer else None
        self.records = find_records(self.root, self.prompt, skip=output)
        if not self.records:
            endings = ", ".join(sorted(suffixes()))
            raise InputError(f"data.root: {self.root} holds no images (files ending in {endings})")
        self._to_do = self.records

    def exclude(self, file_names: Container[str]) -> None:
        """Leaves these out of `predict_dataloader`, because they have been done before."""
        self._to_do = [record for record in self._to_do if record.file_name not in file_names]

    def predict_dataloader(self) -> DataLoader[LoadedImage | FailedImage]:
        """The images that fall to this process, in batches of type `ImageBatch`."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        records = self._to_do[rank::world_size]
        frames = [self._frame(record) for record in records]
        images = _Images(records, frames, self._fit)
        batches = _BatchesOfOneFrame(SequentialSampler(images), self.batch_size, frames)
        return DataLoader(images, batch_sampler=batches, num_workers=self.num_workers, collate_fn=collate)

    def original(self, file_name: str) -> Tensor:
        """One image as its batch holds it, float32 [3, H, W] in [0, 1], read anew.

        Raises:
            UnreadableImageError: it cannot be read, or is no longer there.
        """
        for record in self.records:
            if record.file_name == file_name:
                return _load(record, self._frame(record), self._fit).pixels
        raise UnreadableImageError(f"{file_name} is not in {self.root}")

    @property
    def _fit(self) -> Fit:
        return "crop" if self.resize == "bucket" else self.resize

    def _frame(self, record: ImageRecord) -> tuple[int, int]:
        """Height and width that an image is brought to."""
        size = read_size(record.path) if self.resize == "bucket" and record.error is None else None
        return (
            (self.resolution, self.resolution) if size is None else bucket(*size, self.resolution, self.size_multiple)
        )


def find_records(root: Path, prompt: str = "", skip: str | PathLike[str] | None = None) -> list[ImageRecord]:
    """Every image below `root` and every row of its `metadata.jsonl` files, sorted by name.

    Args:
        root: the folder; links to other folders are not followed.
        prompt: for images without text.
        skip: a folder inside `root` to leave out.

    Raises:
        InputError: a metadata file cannot be read.
    """
    records: dict[str, ImageRecord] = {}
    places: dict[str, str] = {}
    for path in _walk(root, skip):
        if path.name == METADATA_NAME:
            for name, where, record in read_metadata(path, root, prompt):
                if name in places:
                    first = f"{printable(name)} is already in {places[name]}"
                    rank_zero_warn(f"{where} is skipped: {first}", category=InputWarning)
                else:
                    places[name], records[name] = where, record
        elif path.suffix.lower() in suffixes():
            name = path.relative_to(root).as_posix()
            error = None if printable(name) == name else "its name is not valid UTF-8"
            records.setdefault(name, ImageRecord(printable(name), path, prompt, None, {}, error))
    return sorted(records.values(), key=lambda record: record.file_name)


def _walk(root: Path, skip: str | PathLike[str] | None) -> Iterator[Path]:
    """The files below `root` that are not hidden, folders before the folders inside them."""
    skipped = None if skip is None else os.path.realpath(skip)

    def warn(error: OSError) -> None:
        rank_zero_warn(f"{error.filename} is left out: {error.strerror}", category=InputWarning)

    for folder, subfolders, files in os.walk(root, onerror=warn):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) != skipped
        )
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


class _Images(Dataset[LoadedImage | FailedImage]):
    """Reads one image per record and never raises: where that fails, the item says why."""

    def __init__(self, records: list[ImageRecord], frames: list[tuple[int, int]], fit: Fit) -> None:
        self.records, self.frames, self.fit = records, frames, fit

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> LoadedImage | FailedImage:
        record = self.records[index]
        try:
            return _load(record, self.frames[index], self.fit)
        except UnreadableImageError as error:
            return record, str(error)


def _load(record: ImageRecord, frame: tuple[int, int], fit: Fit) -> LoadedImage:
    if record.error is not None:
        raise UnreadableImageError(record.error)
    return LoadedImage(record, *read_image(record.path, frame, fit))


class _BatchesOfOneFrame(BatchSampler):
    """Batches whose images share a frame, in the order of their first images.

    Args:
        sampler: positions of images.
        batch_size: images in a batch, at most.
        frames: of every image.
        drop_last: must be false; Lightning, which makes samplers anew, sets it, and `sampler`, by their names.
    """

    def __init__(
        self, sampler: Sampler[int], batch_size: int, frames: list[tuple[int, int]], drop_last: bool = False
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        alike: dict[tuple[int, int], list[int]] = {}
        for position in sampler:
            alike.setdefault(frames[position], []).append(position)
        self._batches = sorted(
            same[start : start + batch_size] for same in alike.values() for start in range(0, len(same), batch_size)
        )

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)
