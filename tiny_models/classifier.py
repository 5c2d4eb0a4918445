"""Trains the classifier of the miniature world: which subject and which color an image shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torchmetrics.classification import MulticlassAccuracy
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification

from tiny_models.data import to_model_range
from tiny_models.optimizer import one_cycle
from tiny_models.scenes import COLORS, SUBJECTS


def split_logits(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Splits logits [B, 16 + 8] into those of the subjects, [B, 16], and of the colors, [B, 8]."""
    subjects, colors = logits.split((len(SUBJECTS), len(COLORS)), dim=1)
    return subjects, colors


def degrade(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Degrades images as autoencoders and samplers do: blur, gain, offset and noise of random strength.

    The blur's width is drawn once for the batch, everything else for each image. Gain and offset are too small to turn
    one color of the world into another.

    Args:
        images: In [-1, 1], float32 [B, 3, H, W].
        generator: Source of the random numbers. None is torch's global one.

    Returns:
        The degraded images, of the same shape and range.
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


def label_options() -> dict[str, Any]:
    """Returns the labels of the logits, as options of a transformers configuration."""
    names = dict(enumerate([*SUBJECTS, *COLORS]))
    return {"id2label": names, "label2id": {name: position for position, name in names.items()}}


class ClassifierModule(L.LightningModule):
    """Validates and saves a classifier. A subclass trains it.

    Args:
        network: Its logits are those of the subjects and of the colors.
        output: Folder for the trained network, in transformers layout.
        learning_rate: Peak of the one-cycle schedule.
    """

    def __init__(self, network: PreTrainedModel, output: Path, learning_rate: float) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.learning_rate = learning_rate
        self.subject_accuracy = MulticlassAccuracy(len(SUBJECTS), average="micro")
        self.color_accuracy = MulticlassAccuracy(len(COLORS), average="micro")

    def degrade(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Returns images as bad as those that will be classified. In [-1, 1], float32 [B, 3, H, W]."""
        raise NotImplementedError

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Logs the accuracy on validation scenes, degraded in the same way every time."""
        pixels, targets = batch[:2]
        generator = torch.Generator(self.device).manual_seed(batch_index)
        subjects, colors = split_logits(self.network(self.degrade(to_model_range(pixels), generator)).logits)
        self.subject_accuracy(subjects, targets[:, 0])
        self.color_accuracy(colors, targets[:, 1])
        self.log("validation/subject_accuracy", self.subject_accuracy, prog_bar=True)
        self.log("validation/color_accuracy", self.color_accuracy, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a one-cycle learning rate."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Saves the network in half precision."""
        self.network.to(torch.float16).save_pretrained(self.output)


class SceneClassifierModule(ClassifierModule):
    """Trains a small ResNet to classify subject and color of degraded scenes, since it will classify decoded latents.

    Args:
        output: Folder for the trained network, in transformers layout.
        embedding_size: Channels after the first convolution.
        hidden_sizes: Channels of each stage. A stage has one block.
        learning_rate: Peak of the one-cycle schedule.
    """

    def __init__(
        self,
        output: Path,
        embedding_size: int = 16,
        hidden_sizes: tuple[int, ...] = (24, 48, 96),
        learning_rate: float = 5e-3,
    ) -> None:
        network = ResNetForImageClassification(
            ResNetConfig(
                embedding_size=embedding_size,
                hidden_sizes=list(hidden_sizes),
                depths=[1] * len(hidden_sizes),
                layer_type="basic",
                **label_options(),
            )
        )
        super().__init__(network, output, learning_rate)

    def degrade(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Returns the images blurred and noisy, see the function `degrade`."""
        return degrade(images, generator)

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the sum of the cross-entropies of subject and color."""
        pixels, targets = batch
        subjects, colors = split_logits(self.network(degrade(to_model_range(pixels))).logits)
        loss = F.cross_entropy(subjects, targets[:, 0]) + F.cross_entropy(colors, targets[:, 1])
        self.log("train/loss", loss, prog_bar=True)
        return loss
