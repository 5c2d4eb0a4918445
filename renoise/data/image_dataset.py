"""A map-style data set that reads images by their records."""

from __future__ import annotations

from torch.utils.data import Dataset

from renoise.data.batch import FailedImage, LoadedImage
from renoise.data.files import UnreadableImageError
from renoise.data.image_memory import MAX_MEMORY
from renoise.data.images import read_image
from renoise.data.records import ImageRecord
from renoise.data.resizing import Fit


class ImageDataset(Dataset[LoadedImage | FailedImage]):
    """Reads one image per record. An image that cannot be read is a `FailedImage` and raises nothing.

    Args:
        records: The images.
        sizes: Target size of each image, (height, width) in pixels.
        fit: How images are fitted to their target sizes.
        max_memory: Memory in MiB that reading one image may take.
    """

    def __init__(
        self, records: list[ImageRecord], sizes: list[tuple[int, int]], fit: Fit, max_memory: int = MAX_MEMORY
    ) -> None:
        self.records, self.sizes, self.fit, self.max_memory = records, sizes, fit, max_memory

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> LoadedImage | FailedImage:
        record = self.records[index]
        try:
            return load_image(record, self.sizes[index], self.fit, self.max_memory)
        except UnreadableImageError as error:
            return record, str(error)


def load_image(record: ImageRecord, size: tuple[int, int], fit: Fit, max_memory: int = MAX_MEMORY) -> LoadedImage:
    """Returns the image of a record.

    Args:
        record: The image.
        size: Target size, (height, width) in pixels.
        fit: How the image is fitted to the target size.
        max_memory: Memory in MiB that reading it may take.

    Raises:
        UnreadableImageError: The record has an error, or the image cannot be read.
    """
    if record.error is not None:
        raise UnreadableImageError(record.error)
    return LoadedImage(record, *read_image(record.source, size, fit, max_memory, record.file_name))
