"""Trains the judge of the miniature world: which subject and which color a picture shows."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torchmetrics.classification import MulticlassAccuracy
from transformers import ResNetConfig, ResNetForImageClassification

from tiny_models.data import to_model_range
from tiny_models.optimizer import one_cycle
from tiny_models.scenes import COLORS, SUBJECTS


def split_logits(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [B, 16 + 8] as those of the subjects [B, 16] and those of the colors [B, 8]."""
    subjects, colors = logits.split((len(SUBJECTS), len(COLORS)), dim=1)
    return subjects, colors


def degrade(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """What autoencoders and samplers do to a picture: blur, a wrong gain and offset, noise, each of random strength.

    Images [B, 3, H, W] in [-1, 1] come back so. The blur's width is drawn once for the batch, all else for each image;
    gain and offset stay too small to turn one color of the world into another.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high, generator=generator)

    side = images.shape[-1]
    coarse = int(torch.randint(3 * side // 8, side, (1,), generator=generator, device=images.device))
    shrunk = F.interpolate(images, size=coarse, mode="bilinear", antialias=True)
    images = torch.lerp(images, F.interpolate(shrunk, size=side, mode="bilinear"), uniform(0, 1))
    images = images * uniform(0.9, 1.1) + uniform(-0.06, 0.06)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return (images + uniform(0, 0.2) * noise).clamp(-1, 1)


class SceneClassifierModule(L.LightningModule):
    """A small ResNet with two answers, learned on degraded scenes: it judges decoded latents, not the originals.

    Args:
        output: folder that receives the trained network in transformers layout when the fit ends.
        embedding_size: channels after the first convolution.
        hidden_sizes: channels of each stage, one block per stage.
        learning_rate: peak of the one-cycle schedule.
    """

    def __init__(
        self,
        output: Path,
        embedding_size: int = 16,
        hidden_sizes: tuple[int, ...] = (24, 48, 96),
        learning_rate: float = 5e-3,
    ) -> None:
        super().__init__()
        self.output, self.learning_rate = output, learning_rate
        names = dict(enumerate([*SUBJECTS, *COLORS]))
        self.network = ResNetForImageClassification(
            ResNetConfig(
                embedding_size=embedding_size,
                hidden_sizes=list(hidden_sizes),
                depths=[1] * len(hidden_sizes),
                layer_type="basic",
                id2label=names,
                label2id={name: position for position, name in names.items()},
            )
        )
        self.subject_accuracy = MulticlassAccuracy(len(SUBJECTS), average="micro")
        self.color_accuracy = MulticlassAccuracy(len(COLORS), average="micro")

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Cross-entropy of both answers, summed."""
        pixels, targets = batch
        subjects, colors = self._answers(degrade(to_model_range(pixels)))
        loss = F.cross_entropy(subjects, targets[:, 0]) + F.cross_entropy(colors, targets[:, 1])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Share of right answers on unseen scenes, degraded in the same way every time."""
        pixels, targets = batch
        generator = torch.Generator(self.device).manual_seed(batch_index)
        subjects, colors = self._answers(degrade(to_model_range(pixels), generator))
        self.subject_accuracy(subjects, targets[:, 0])
        self.color_accuracy(colors, targets[:, 1])
        self.log("validation/subject_accuracy", self.subject_accuracy, prog_bar=True)
        self.log("validation/color_accuracy", self.color_accuracy, prog_bar=True)

    def _answers(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return split_logits(self.network(images).logits)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW under a one-cycle schedule over the whole run."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Writes the network in half precision; whoever loads it computes in float32."""
        self.network.to(torch.float16).save_pretrained(self.output)
