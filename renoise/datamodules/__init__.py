"""Where images come from: folders, read into batches that know which file each image is."""

from renoise.datamodules.batch import ImageBatch, ImageRecord, LoadedImage, collate
from renoise.datamodules.image_folder import ImageFolderDataModule
from renoise.datamodules.images import UnreadableImageError, read_image

__all__ = [
    "ImageBatch",
    "ImageFolderDataModule",
    "ImageRecord",
    "LoadedImage",
    "UnreadableImageError",
    "collate",
    "read_image",
]
