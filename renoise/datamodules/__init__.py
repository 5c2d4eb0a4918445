"""Where images come from: data sets, read into batches that know which image of them each is."""

from renoise.datamodules.batch import Encoded, ImageBatch, ImageRecord, LoadedImage, collate
from renoise.datamodules.coco_captions import CocoCaptionsDataModule
from renoise.datamodules.hugging_face import HuggingFaceDataModule
from renoise.datamodules.image_folder import ImageFolderDataModule
from renoise.datamodules.images import UnreadableImageError, read_image
from renoise.datamodules.images_data_module import ImagesDataModule
from renoise.datamodules.pie_bench import PIEBenchDataModule
from renoise.datamodules.web_dataset import WebDatasetDataModule

__all__ = [
    "CocoCaptionsDataModule",
    "Encoded",
    "HuggingFaceDataModule",
    "ImageBatch",
    "ImageFolderDataModule",
    "ImageRecord",
    "ImagesDataModule",
    "LoadedImage",
    "PIEBenchDataModule",
    "UnreadableImageError",
    "WebDatasetDataModule",
    "collate",
    "read_image",
]
