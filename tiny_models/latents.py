"""Data modules of encoded scenes and their prompts, for the diffusion models."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from renoise import time_ids
from tiny_models.data import VALIDATION_SEED, InMemoryDataModule, to_model_range, to_pixels
from tiny_models.scenes import SIDE, TRAINING_SEED, Scene, random_scenes
from tiny_models.vocabulary import build_tokenizer

SHORT_SIDES = (24, 1024)
"""Range of the short side of an imagined original, in pixels. It is uniform on a logarithmic scale."""


class LatentsDataModule(InMemoryDataModule):
    """Batches of (latents float32 [B, C, h, w], prompt tokens int64 [B, length]). Every scene is encoded once.

    Args:
        vae: Folder of the autoencoder.
        scenes: Number of training scenes.
        validation_scenes: Number of validation scenes.
        batch_size: Latents per training step.
        prompt_length: Longest prompt in tokens, start and end included.
    """

    def __init__(
        self, vae: Path, scenes: int, validation_scenes: int = 256, batch_size: int = 96, prompt_length: int = 32
    ) -> None:
        super().__init__(batch_size)
        self.vae = vae
        self.scenes = scenes
        self.validation_scenes = validation_scenes
        self.prompt_length = prompt_length

    def setup(self, stage: str) -> None:
        """Draws and encodes all scenes."""
        if stage == "fit":
            self.training_set = self.encode(random_scenes(self.scenes, TRAINING_SEED))
            self.validation_set = self.encode(random_scenes(self.validation_scenes, VALIDATION_SEED))

    def autoencoder(self) -> AutoencoderKL:
        """Returns the autoencoder, with the shift and the scale of its latents in its configuration."""
        return AutoencoderKL.from_pretrained(self.vae).float()

    def encode(self, scenes: Sequence[Scene]) -> Dataset[tuple[torch.Tensor, ...]]:
        """Returns what batches are made of."""
        return TensorDataset(self.latents(scene.draw() for scene in scenes), self.tokens(scenes))

    @torch.inference_mode()
    def latents(self, images: Iterable[Image.Image]) -> torch.Tensor:
        """Returns the latents of images of one size, shifted and scaled, float32 [N, C, h, w]."""
        vae = self.autoencoder()
        batches = to_pixels(images).split(64)
        latents = torch.cat([vae.encode(to_model_range(batch)).latent_dist.mean for batch in batches])
        scaled: torch.Tensor = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
        return scaled

    def tokens(self, scenes: Sequence[Scene]) -> torch.Tensor:
        """Returns the tokens of the captions, int64 [N, length]."""
        tokens: torch.Tensor = build_tokenizer(self.prompt_length)(
            [scene.caption for scene in scenes], padding="max_length", return_tensors="pt"
        ).input_ids
        return tokens


class SizedLatentsDataModule(LatentsDataModule):
    """Batches of (latents, prompt tokens, SDXL's time ids float32 [B, 6]); see `LatentsDataModule` for the arguments.

    Each scene has an imagined original of random size, see `SHORT_SIDES`. A quarter of the originals are smaller than
    64 pixels, so their scenes are blurred. Half of them are not square and are cropped in the middle.
    """

    def encode(self, scenes: Sequence[Scene]) -> Dataset[tuple[torch.Tensor, ...]]:
        """Returns what batches are made of, with sizes."""
        rng = random.Random(len(scenes))
        sizes = [_random_size(rng) for _ in scenes]
        images = (limit_detail(scene.draw(), min(size)) for scene, size in zip(scenes, sizes, strict=True))
        ids = torch.tensor([time_ids(height, width, (SIDE, SIDE)) for height, width in sizes], dtype=torch.float32)
        return TensorDataset(self.latents(images), self.tokens(scenes), ids)


def _random_size(rng: random.Random) -> tuple[int, int]:
    """Returns height and width of an imagined original."""
    low, high = SHORT_SIDES
    short = round(low * (high / low) ** rng.random())
    long = round(short * rng.choice((1, rng.uniform(1, 1.5))))
    return (short, long) if rng.random() < 0.5 else (long, short)


def limit_detail(image: Image.Image, side: int) -> Image.Image:
    """Returns the square image as blurred as if it were enlarged from `side` pixels."""
    if side >= image.width:
        return image
    return image.resize((side, side), Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.LANCZOS)
