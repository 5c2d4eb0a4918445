"""What the shipped models train on, drawn once and held in memory."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import lightning as L
import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from renoise.data.resizing import time_ids
from tiny_models.photographs import random_crops
from tiny_models.scenes import COLORS, SUBJECTS, TRAINING_SEED, Scene, random_scenes
from tiny_models.vocabulary import build_tokenizer

VALIDATION_SEED = 1


def to_pixels(images: Iterable[Image.Image]) -> torch.Tensor:
    """Images of one size as uint8 [N, 3, H, W]."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def to_model_range(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def labels(scenes: list[Scene]) -> torch.Tensor:
    """The subject's and the color's position in `SUBJECTS` and `COLORS`, int64 [N, 2]."""
    colors = list(COLORS)
    return torch.tensor([[SUBJECTS.index(scene.subject), colors.index(scene.color)] for scene in scenes])


class InMemoryDataModule(L.LightningDataModule):
    """Loaders over a training and a validation set that `setup` has put into memory."""

    training_set: Dataset[tuple[torch.Tensor, ...]]
    validation_set: Dataset[tuple[torch.Tensor, ...]]

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Shuffled; the last, smaller batch is left out."""
        return DataLoader(self.training_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """The unseen scenes, in order."""
        return DataLoader(self.validation_set, batch_size=64)


class ScenesDataModule(InMemoryDataModule):
    """Batches of (pixels uint8 [B, 3, H, W], labels int64 [B, 2]); crops of photographs carry the label -1.

    Args:
        scenes: how many scenes to draw for training.
        photographs: how many crops of photographs to mix in.
        validation_scenes: how many unseen scenes to judge by.
        batch_size: images per training step.
    """

    def __init__(self, scenes: int, photographs: int = 0, validation_scenes: int = 256, batch_size: int = 24) -> None:
        super().__init__(batch_size)
        self.scenes, self.photographs, self.validation_scenes = scenes, photographs, validation_scenes

    def setup(self, stage: str) -> None:
        """Draws every picture."""
        if stage != "fit":
            return
        training = random_scenes(self.scenes, TRAINING_SEED)
        pixels, targets = to_pixels(scene.draw() for scene in training), labels(training)
        if self.photographs:
            pixels = torch.cat([pixels, to_pixels(random_crops(self.photographs, TRAINING_SEED))])
            targets = torch.cat([targets, torch.full((self.photographs, 2), -1)])
        validation = random_scenes(self.validation_scenes, VALIDATION_SEED)
        self.training_set = TensorDataset(pixels, targets)
        self.validation_set = TensorDataset(to_pixels(scene.draw() for scene in validation), labels(validation))


class LatentsDataModule(InMemoryDataModule):
    """Batches of (latents float32 [B, C, h, w], prompt tokens int64 [B, length]), every scene encoded once.

    Args:
        vae: folder of the autoencoder.
        scenes: how many scenes to draw for training.
        validation_scenes: how many unseen scenes to judge by.
        batch_size: latents per training step.
        prompt_length: longest prompt in tokens, start and end included.
    """

    def __init__(
        self, vae: Path, scenes: int, validation_scenes: int = 256, batch_size: int = 96, prompt_length: int = 32
    ) -> None:
        super().__init__(batch_size)
        self.vae, self.scenes, self.validation_scenes = vae, scenes, validation_scenes
        self.prompt_length = prompt_length

    def setup(self, stage: str) -> None:
        """Draws and encodes every scene."""
        if stage == "fit":
            self.training_set = self._encode(random_scenes(self.scenes, TRAINING_SEED))
            self.validation_set = self._encode(random_scenes(self.validation_scenes, VALIDATION_SEED))

    def _encode(self, scenes: list[Scene]) -> Dataset[tuple[torch.Tensor, ...]]:
        return TensorDataset(self._latents(scene.draw() for scene in scenes), self._tokens(scenes))

    @torch.inference_mode()
    def _latents(self, images: Iterable[Image.Image]) -> torch.Tensor:
        vae = AutoencoderKL.from_pretrained(self.vae).float()
        pixels = to_pixels(images).split(64)
        latents = torch.cat([vae.encode(to_model_range(batch)).latent_dist.mean for batch in pixels])
        scaled: torch.Tensor = latents * vae.config.scaling_factor
        return scaled

    def _tokens(self, scenes: list[Scene]) -> torch.Tensor:
        tokens: torch.Tensor = build_tokenizer(self.prompt_length)(
            [scene.caption for scene in scenes], padding="max_length", return_tensors="pt"
        ).input_ids
        return tokens


class SizedLatentsDataModule(LatentsDataModule):
    """Batches of (latents, prompt tokens, SDXL's time ids float32 [B, 6]), each scene as if from an image of some size.

    The short side is drawn from `SHORT_SIDES`, so that a quarter of the images were smaller than 64 pixels and are
    blurred; half are longer than high or wide, and cropped in the middle.
    """

    def _encode(self, scenes: list[Scene]) -> Dataset[tuple[torch.Tensor, ...]]:
        rng = random.Random(len(scenes))
        sizes = [_random_size(rng) for _ in scenes]
        images = (as_if_from(scene.draw(), min(size)) for scene, size in zip(scenes, sizes, strict=True))
        ids = torch.tensor([time_ids(height, width, (64, 64)) for height, width in sizes], dtype=torch.float32)
        return TensorDataset(self._latents(images), self._tokens(scenes), ids)


SHORT_SIDES = (24, 1024)
"""Pixels, drawn evenly on a logarithmic scale."""


def _random_size(rng: random.Random) -> tuple[int, int]:
    """Height and width of an image that a scene might have been cropped from."""
    low, high = SHORT_SIDES
    short = round(low * (high / low) ** rng.random())
    long = round(short * rng.choice((1, rng.uniform(1, 1.5))))
    return (short, long) if rng.random() < 0.5 else (long, short)


def as_if_from(image: Image.Image, side: int) -> Image.Image:
    """What is left of the image when it comes from one of `side` pixels."""
    if side >= image.width:
        return image
    return image.resize((side, side), Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.LANCZOS)
