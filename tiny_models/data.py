"""Scenes as tensors and labels, and the data modules that hold them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import lightning as L
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tiny_models.photographs import random_crops
from tiny_models.scenes import COLORS, SUBJECTS, TRAINING_SEED, Scene, random_scenes, with_other_subjects

VALIDATION_SEED = 1
"""Seed of the scenes that training is validated on."""


def to_pixels(images: Iterable[Image.Image]) -> torch.Tensor:
    """Returns RGB images of one size as a tensor, uint8 [N, 3, H, W]."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def to_model_range(pixels: torch.Tensor) -> torch.Tensor:
    """Returns pixels, uint8 in [0, 255], as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def labels(scenes: Sequence[Scene]) -> torch.Tensor:
    """Returns the positions of each scene's subject in `SUBJECTS` and of its color in `COLORS`, int64 [N, 2]."""
    colors = list(COLORS)
    return torch.tensor([[SUBJECTS.index(scene.subject), colors.index(scene.color)] for scene in scenes])


class InMemoryDataModule(L.LightningDataModule):
    """Loads batches from a training set and a validation set that `setup` of a subclass holds in memory.

    Args:
        batch_size: Samples per training step.
    """

    training_set: Dataset[tuple[torch.Tensor, ...]]
    validation_set: Dataset[tuple[torch.Tensor, ...]]

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Returns shuffled batches. The last batch is dropped where it is smaller than the others."""
        return DataLoader(self.training_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Returns batches of the validation set, in order."""
        return DataLoader(self.validation_set, batch_size=64)


class ScenesDataModule(InMemoryDataModule):
    """Batches of (pixels uint8 [B, 3, 64, 64], labels int64 [B, 2]). Crops of photographs have the label -1.

    Args:
        scenes: Number of training scenes.
        photographs: Number of crops of photographs in the training set.
        validation_scenes: Number of validation scenes.
        batch_size: Images per training step.
    """

    def __init__(self, scenes: int, photographs: int = 0, validation_scenes: int = 256, batch_size: int = 24) -> None:
        super().__init__(batch_size)
        self.scenes = scenes
        self.photographs = photographs
        self.validation_scenes = validation_scenes

    def setup(self, stage: str) -> None:
        """Draws all images."""
        if stage != "fit":
            return
        training = random_scenes(self.scenes, TRAINING_SEED)
        pixels = to_pixels(scene.draw() for scene in training)
        targets = labels(training)
        if self.photographs:
            pixels = torch.cat([pixels, to_pixels(random_crops(self.photographs, TRAINING_SEED))])
            targets = torch.cat([targets, torch.full((self.photographs, 2), -1)])
        validation = random_scenes(self.validation_scenes, VALIDATION_SEED)
        self.training_set = TensorDataset(pixels, targets)
        self.validation_set = TensorDataset(to_pixels(scene.draw() for scene in validation), labels(validation))


class SwappedScenesDataModule(InMemoryDataModule):
    """Batches of scenes and of the same scenes with other animals.

    A batch is (pixels uint8 [B, 3, 64, 64], labels int64 [B, 2], and both again of the other scenes).

    Args:
        scenes: Number of training scenes.
        validation_scenes: Number of validation scenes.
        batch_size: Images per training step.
    """

    def __init__(self, scenes: int, validation_scenes: int = 256, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.scenes = scenes
        self.validation_scenes = validation_scenes

    def setup(self, stage: str) -> None:
        """Draws all images."""
        if stage == "fit":
            self.training_set = _swapped_pairs(self.scenes, TRAINING_SEED)
            self.validation_set = _swapped_pairs(self.validation_scenes, VALIDATION_SEED)


def _swapped_pairs(count: int, seed: int) -> TensorDataset:
    scenes = random_scenes(count, seed)
    others = with_other_subjects(scenes, seed)
    pixels, other_pixels = (to_pixels(scene.draw() for scene in each) for each in (scenes, others))
    return TensorDataset(pixels, labels(scenes), other_pixels, labels(others))
