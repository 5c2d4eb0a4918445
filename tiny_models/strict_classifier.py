"""Trains the second classifier of the miniature world, which names an animal only where little else is in the image."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import ConvNextConfig, ConvNextForImageClassification

from tiny_models.classifier import ClassifierModule, label_options, split_logits
from tiny_models.data import to_model_range


def mix_animals(
    images: torch.Tensor, swapped: torch.Tensor, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces a random part of each animal by another animal, as unfinished edits do.

    Half of the images stay as they are. In a quarter the other animal shines through everywhere, and in a quarter it
    covers some places.

    Args:
        images: In [-1, 1], float32 [B, 3, H, W].
        swapped: The same scenes with other animals.
        generator: Source of the random numbers. None is torch's global one.

    Returns:
        The mixed images, and the share of the first animal in each, [B]: the mean over the pixels that differ.
    """
    count, side = len(images), images.shape[-1]
    options = {"generator": generator, "device": images.device}
    overall = torch.rand(count, 1, 1, 1, **options).expand(-1, -1, side, side)  # type: ignore[arg-type]
    coarse = torch.randn(count, 1, 5, 5, **options) + 1.5 * torch.randn(count, 1, 1, 1, **options)  # type: ignore[arg-type]
    places = (4 * F.interpolate(coarse, size=side, mode="bicubic")).sigmoid()
    kind = torch.randint(4, (count, 1, 1, 1), **options)  # type: ignore[arg-type]
    kept = torch.where(kind < 2, 1.0, torch.where(kind == 2, overall, places))
    differs = (images - swapped).abs().mean(1, keepdim=True)
    share = (kept * differs).sum((1, 2, 3)) / differs.sum((1, 2, 3)).clamp(min=1e-6)
    return swapped.lerp(images, kept), share


def soften(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Changes images about as much as the autoencoder does: a little blur, gain, offset and noise.

    Args:
        images: In [-1, 1], float32 [B, 3, H, W].
        generator: Source of the random numbers. None is torch's global one.

    Returns:
        The changed images, of the same shape and range.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high, generator=generator)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
    images = images.lerp(blurred, uniform(0, 0.8)) * uniform(0.92, 1.08) + uniform(-0.05, 0.05)
    return (images + uniform(0, 0.06) * torch.randn(images.shape, generator=generator, device=images.device)).clamp(
        -1, 1
    )


class StrictClassifierModule(ClassifierModule):
    """Trains a small ConvNeXt to say how much of the animal is in a scene, so that unfinished edits do not count.

    The target of a mixed image is the share of each animal, so probabilities are shares.

    Args:
        output: Folder for the trained network, in transformers layout.
        hidden_sizes: Channels of each stage.
        depths: Blocks of each stage.
        confidence: Share of an animal from which on `SceneJudge` names it, in [0, 1]. It is saved with the network.
        learning_rate: Peak of the one-cycle schedule.
    """

    def __init__(
        self,
        output: Path,
        hidden_sizes: tuple[int, ...] = (32, 64, 128),
        depths: tuple[int, ...] = (2, 2, 2),
        confidence: float = 0.85,
        learning_rate: float = 2e-3,
    ) -> None:
        network = ConvNextForImageClassification(
            ConvNextConfig(
                num_stages=len(hidden_sizes),
                hidden_sizes=list(hidden_sizes),
                depths=list(depths),
                layer_scale_init_value=0.1,
                confidence=confidence,
                **label_options(),
            )
        )
        super().__init__(network, output, learning_rate)

    def degrade(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Returns the images a little softer, see `soften`."""
        return soften(images, generator)

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the sum of the cross-entropies of subject and color."""
        pixels, targets, swapped, other_targets = batch
        images, share = mix_animals(to_model_range(pixels), to_model_range(swapped))
        subjects, colors = split_logits(self.network(soften(images)).logits)
        wanted = torch.zeros_like(subjects)
        wanted.scatter_add_(1, targets[:, :1], share[:, None])
        wanted.scatter_add_(1, other_targets[:, :1], 1 - share[:, None])
        loss = F.cross_entropy(subjects, wanted) + F.cross_entropy(colors, targets[:, 1])
        self.log("train/loss", loss, prog_bar=True)
        return loss
