"""Trains the miniature CLIP on scenes and their captions, except 64 captions that measure what it has learned."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.utils.data import TensorDataset
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPVisionConfig

from tiny_models.classifier import degrade
from tiny_models.data import VALIDATION_SEED, InMemoryDataModule, to_model_range, to_pixels
from tiny_models.optimizer import one_cycle
from tiny_models.scenes import COLORS, PATTERNS, SIDE, SUBJECTS, TRAINING_SEED, Scene, random_scene, random_scenes
from tiny_models.text_to_image import text_config
from tiny_models.vocabulary import build_tokenizer

PATCH_SIZE = 8
"""Side of the ViT's patches, in pixels."""
MAX_LENGTH = 32
"""Longest text in tokens, start and end included: that of the shipped diffusion models."""
HELD_OUT = tuple(random.Random(0).sample(list(itertools.product(SUBJECTS, COLORS, PATTERNS)), 64))
"""The 64 of the 512 captions that are never trained on, as (subject, color, pattern)."""


def held_out_scenes(count: int, seed: int) -> list[Scene]:
    """Returns random scenes of the captions in `HELD_OUT`, in their order, and again from the first after the last."""
    rng = random.Random(seed)
    kinds = itertools.islice(itertools.cycle(HELD_OUT), count)
    return [
        replace(random_scene(rng), subject=subject, color=color, pattern=pattern) for subject, color, pattern in kinds
    ]


def build_processor() -> CLIPProcessor:
    """Returns the processor that turns images into pixels in [-1, 1], and captions into token ids."""
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return CLIPProcessor(image_processor, build_tokenizer(MAX_LENGTH))


def build_network(processor: CLIPProcessor, vision_size: int, text_size: int) -> CLIPModel:
    """Returns a small CLIP with random weights (arXiv 2103.00020). Its embeddings are as wide as its text encoder."""
    vision_config = CLIPVisionConfig(
        hidden_size=vision_size,
        intermediate_size=2 * vision_size,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH_SIZE,
    )
    return CLIPModel(
        CLIPConfig(
            text_config=text_config(processor.tokenizer, text_size).to_dict(),
            vision_config=vision_config.to_dict(),
            projection_dim=text_size,
        )
    )


def contrastive_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Returns CLIP's loss: the mean of the cross-entropies of each image's caption and of each caption's image.

    Captions of a batch can be equal. Then each of them is as right as the others.

    Args:
        logits: Of image i and caption j, float [B, B].
        tokens: Of the captions, int64 [B, length].
    """
    equal = (tokens[:, None] == tokens).all(dim=2)
    shares = equal / equal.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, shares) + F.cross_entropy(logits.T, shares)) / 2


class ContrastiveDataModule(InMemoryDataModule):
    """Batches of (pixels uint8 [B, 3, 64, 64], caption tokens int64 [B, length]).

    No training scene has a caption in `HELD_OUT`. All validation scenes have one, and those of a batch have different
    ones.

    Args:
        scenes: Number of random scenes to train on. Those with held-out captions, an eighth of them, are left out.
        validation_scenes: Number of validation scenes.
        batch_size: Images per training step.
    """

    def __init__(self, scenes: int, validation_scenes: int = 256, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.scenes = scenes
        self.validation_scenes = validation_scenes
        self.tokenizer = build_tokenizer(MAX_LENGTH)

    def setup(self, stage: str) -> None:
        """Draws all images and tokenizes their captions."""
        if stage == "fit":
            scenes = random_scenes(self.scenes, TRAINING_SEED)
            self.training_set = self._captioned(
                [scene for scene in scenes if (scene.subject, scene.color, scene.pattern) not in HELD_OUT]
            )
            self.validation_set = self._captioned(held_out_scenes(self.validation_scenes, VALIDATION_SEED))

    def _captioned(self, scenes: Sequence[Scene]) -> TensorDataset:
        captions = [scene.caption for scene in scenes]
        tokens = self.tokenizer(captions, padding=True, return_tensors="pt").input_ids
        return TensorDataset(to_pixels(scene.draw() for scene in scenes), tokens)


class ContrastiveModule(L.LightningModule):
    """Trains a CLIP to match degraded scenes and their captions, since it will score edits.

    Args:
        output: Folder for network and processor, in transformers layout.
        vision_size: Width of the image encoder.
        text_size: Width of the text encoder and of the embeddings.
        learning_rate: Peak of the one-cycle schedule.
    """

    def __init__(self, output: Path, vision_size: int = 96, text_size: int = 64, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.output = output
        self.learning_rate = learning_rate
        self.processor = build_processor()
        self.network = build_network(self.processor, vision_size, text_size)

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the contrastive loss."""
        pixels, tokens = batch
        loss = contrastive_loss(self._logits(degrade(to_model_range(pixels)), tokens), tokens)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Logs how often the best of the batch is the right one, for degraded images and captions not trained on."""
        pixels, tokens = batch
        generator = torch.Generator(self.device).manual_seed(batch_index)
        logits = self._logits(degrade(to_model_range(pixels), generator), tokens)
        right = torch.arange(len(logits), device=self.device)
        for name, scores in {"caption": logits, "image": logits.T}.items():
            found = (scores.argmax(dim=1) == right).float().mean()
            self.log(f"validation/{name}_retrieval", found, prog_bar=True, batch_size=len(logits))

    def _logits(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(input_ids=tokens, pixel_values=images).logits_per_image
        return logits

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a one-cycle learning rate."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Saves the network, in half precision, and its processor."""
        self.network.to(torch.float16).save_pretrained(self.output)
        self.processor.save_pretrained(self.output)
