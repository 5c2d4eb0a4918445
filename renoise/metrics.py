"""How far two batches of images lie apart, image by image, measured by torchmetrics."""

from __future__ import annotations

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def psnr(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, [B]; images and targets [B, 3, H, W] in [0, 1]. Equal images give infinity."""
    ratio: torch.Tensor = peak_signal_noise_ratio(images, targets, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return ratio


def ssim(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Structural similarity, [B] in [-1, 1]; images and targets [B, 3, H, W] in [0, 1] with sides of 11 or more."""
    similarity: torch.Tensor = structural_similarity_index_measure(images, targets, data_range=1.0, reduction="none")
    return similarity.reshape(len(images))  # torchmetrics drops the axis of a batch of one


def mean_squared_error(latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each image, [B]; both [B, C, h, w]."""
    return (latents - targets).square().flatten(1).mean(dim=1)
