"""Data sets of images, read in batches in which every image keeps its name."""

from renoise.data.batch import Encoded, ImageBatch, LoadedImage, collate
from renoise.data.captioner import CaptionerConfig
from renoise.data.coco_captions import CocoCaptionsDataModule
from renoise.data.files import UnreadableImageError
from renoise.data.hugging_face import HuggingFaceDataModule
from renoise.data.image_folder import ImageFolderDataModule
from renoise.data.images import read_image
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.pie_bench import PIEBenchDataModule
from renoise.data.records import ImageRecord
from renoise.data.web_dataset import WebDatasetDataModule

__all__ = [
    "CaptionerConfig",
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
