"""Where images come from: data sets, read into batches that know which image of them each is."""

from renoise.data.batch import Encoded, ImageBatch, ImageRecord, LoadedImage, collate
from renoise.data.coco_captions import CocoCaptionsDataModule
from renoise.data.hugging_face import HuggingFaceDataModule
from renoise.data.image_folder import ImageFolderDataModule
from renoise.data.images import UnreadableImageError, read_image
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.pie_bench import PIEBenchDataModule
from renoise.data.web_dataset import WebDatasetDataModule

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
