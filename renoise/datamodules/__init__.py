"""Where images come from: data sets, read into batches that know which image of them each is."""

from renoise.datamodules.batch import ImageBatch, ImageRecord, LoadedImage, collate
from renoise.datamodules.image_folder import ImageFolderDataModule
from renoise.datamodules.images import UnreadableImageError, read_image
from renoise.datamodules.images_data_module import ImagesDataModule

__all__ = [
    "ImageBatch",
    "ImageFolderDataModule",
    "ImageRecord",
    "ImagesDataModule",
    "LoadedImage",
    "UnreadableImageError",
    "collate",
    "read_image",
]
