"""How far two batches of images lie apart, image by image, measured by torchmetrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def masked_psnr(images: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB over part of each image, [B]; torchmetrics knows whole images alone.

    Args:
        images: [B, 3, H, W] in [0, 1].
        targets: likewise.
        mask: how much each pixel counts, [B, H, W] in [0, 1]; not 0 everywhere.
    """
    error = (images - targets).square().mean(dim=1)
    return -10 * _weighted_mean(error, mask).log10()


def masked_ssim(images: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Structural similarity over part of each image, [B] in [-1, 1]; arguments as of `masked_psnr`, sides 11 or more.

    What the mask leaves out is taken from the targets first, or windows that reach across its edge would see it.
    """
    images = torch.lerp(targets, images, mask.to(images)[:, None])
    _, local = structural_similarity_index_measure(
        images, targets, data_range=1.0, reduction="none", return_full_image=True
    )  # [B, 3, H, W]: torchmetrics reflects the border and keeps every pixel
    return _weighted_mean(local.mean(dim=1), mask)


def structure_distance(features: torch.Tensor, target_features: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the features' self-similarities, [B] in [0, 4].

    What shows where is compared, not what it looks like: the matrix holds the cosine of every position's features with
    every other's (arXiv 2201.00424, with a ViT's keys there).

    Args:
        features: [B, C, h, w].
        target_features: [B, D, h, w]; D may differ from C.
    """
    return (_self_similarity(features) - _self_similarity(target_features)).square().mean(dim=(1, 2))


def _self_similarity(features: torch.Tensor) -> torch.Tensor:
    """[B, h · w, h · w]"""
    directions = F.normalize(features.flatten(2), dim=1)
    return directions.transpose(1, 2) @ directions


def _weighted_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Of each image, [B]; both [B, H, W]."""
    mask = mask.to(values)
    return (mask * values).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)
