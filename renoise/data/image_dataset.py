"""Images by their records, read one by one, each in its frame."""

from __future__ import annotations

from torch.utils.data import Dataset

from renoise.data.batch import FailedImage, ImageRecord, LoadedImage
from renoise.data.images import UnreadableImageError, read_image
from renoise.data.resizing import Fit


class ImageDataset(Dataset[LoadedImage | FailedImage]):
    """Reads one image per record and never raises: where that fails, the item says why.

    Args:
        records: of the images.
        frames: height and width that each is brought to.
        fit: how.
    """

    def __init__(self, records: list[ImageRecord], frames: list[tuple[int, int]], fit: Fit) -> None:
        self.records, self.frames, self.fit = records, frames, fit

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> LoadedImage | FailedImage:
        record = self.records[index]
        try:
            return load_image(record, self.frames[index], self.fit)
        except UnreadableImageError as error:
            return record, str(error)


def load_image(record: ImageRecord, frame: tuple[int, int], fit: Fit) -> LoadedImage:
    """The image of a record in a frame (height, width).

    Raises:
        UnreadableImageError: it shall not be opened, or cannot be.
    """
    if record.error is not None:
        raise UnreadableImageError(record.error)
    return LoadedImage(record, *read_image(record.source, frame, fit))
