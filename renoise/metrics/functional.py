"""Metrics of two batches of images as functions. Each returns one number per image.

torchmetrics is imported where it is used, because it takes seconds.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio, −10 · log₁₀(mean((images − targets)²)), in dB.

    Args:
        images: [B, 3, H, W] in [0, 1].
        targets: [B, 3, H, W] in [0, 1].

    Returns:
        [B]. Equal images have infinity.

    Example:
        >>> import torch
        >>> from renoise.metrics.functional import psnr
        >>> targets = torch.zeros(2, 3, 32, 32)
        >>> psnr(targets + 0.1, targets)
        tensor([20., 20.])
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ratio: Tensor = peak_signal_noise_ratio(images, targets, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return ratio


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Returns the structural similarity (Wang et al. 2004, eq. 13) with Gaussian windows of σ = 1.5 and 11 pixels.

    Args:
        images: [B, 3, H, W] in [0, 1]; H and W are 11 or more.
        targets: [B, 3, H, W] in [0, 1].

    Returns:
        [B] in [−1, 1]. Equal images have 1.

    Example:
        >>> import torch
        >>> from renoise.metrics.functional import ssim
        >>> targets = torch.rand(2, 3, 32, 32)
        >>> ssim(targets, targets)
        tensor([1., 1.])
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity: Tensor = structural_similarity_index_measure(images, targets, data_range=1.0, reduction="none")
    return similarity.reshape(len(images))  # torchmetrics drops the axis of a batch of one


def mean_squared_error(latents: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean squared error, mean((latents − targets)²).

    Args:
        latents: [B, C, h, w].
        targets: [B, C, h, w].

    Returns:
        [B].

    Example:
        >>> import torch
        >>> from renoise.metrics.functional import mean_squared_error
        >>> targets = torch.zeros(2, 4, 8, 8)
        >>> mean_squared_error(targets + 2, targets)
        tensor([4., 4.])
    """
    return (latents - targets).square().flatten(1).mean(dim=1)


def masked_psnr(images: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio over a part of each image, with a weighted mean in place of the mean.

    Args:
        images: [B, 3, H, W] in [0, 1].
        targets: [B, 3, H, W] in [0, 1].
        mask: Weight of each pixel, [B, H, W] in [0, 1]; not 0 everywhere.

    Returns:
        [B], in dB. Parts that are equal have infinity.

    Example:
        >>> import torch
        >>> from renoise.metrics.functional import masked_psnr
        >>> images, targets, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32)
        >>> images[:, :, :16], images[:, :, 16:], mask[:, :16] = 0.1, 1.0, 1.0
        >>> masked_psnr(images, targets, mask)
        tensor([20.])
    """
    error = (images - targets).square().mean(dim=1)
    return -10 * _weighted_mean(error, mask).log10()


def masked_ssim(images: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Returns the structural similarity over a part of each image: the weighted mean of the local similarities.

    Pixels outside the mask are taken from the targets first. Otherwise windows across its edge would include them.

    Args:
        images: [B, 3, H, W] in [0, 1]; H and W are 11 or more.
        targets: [B, 3, H, W] in [0, 1].
        mask: Weight of each pixel, [B, H, W] in [0, 1]; not 0 everywhere.

    Returns:
        [B] in [−1, 1]. Parts that are equal have 1.

    Example:
        >>> import torch
        >>> from renoise.metrics.functional import masked_ssim
        >>> images, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 32, 32)
        >>> targets, mask[:, :16] = images.clone(), 1.0
        >>> images[:, :, 16:] = 0.0
        >>> masked_ssim(images, targets, mask)
        tensor([1.])
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    images = targets.lerp(images, mask.to(images)[:, None])
    _, local = structural_similarity_index_measure(
        images, targets, data_range=1.0, reduction="none", return_full_image=True
    )  # [B, 3, H, W]: torchmetrics reflects the border and keeps every pixel
    return _weighted_mean(local.mean(dim=1), mask)


def structure_distance(features: Tensor, target_features: Tensor) -> Tensor:
    """Returns the mean squared difference of two self-similarity matrices (arXiv 2201.00424, with a ViT's keys there).

    The matrix of an image contains the cosine between the features of every two positions. It describes the layout of
    the image, and not its appearance.

    Args:
        features: [B, C, h, w].
        target_features: [B, D, h, w]; D may differ from C.

    Returns:
        [B] in [0, 4].

    Example:
        >>> import torch
        >>> from renoise.metrics.functional import structure_distance
        >>> features = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])  # two positions in the same direction
        >>> target_features = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # at right angles
        >>> structure_distance(features, target_features)
        tensor([0.5000])
    """
    return (_self_similarity(features) - _self_similarity(target_features)).square().mean(dim=(1, 2))


def _self_similarity(features: Tensor) -> Tensor:
    """Returns cosines, [B, h · w, h · w], of features [B, C, h, w]."""
    directions = F.normalize(features.flatten(2), dim=1)
    return directions.transpose(1, 2) @ directions


def _weighted_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of each image, [B], of values [B, H, W] with weights [B, H, W]."""
    mask = mask.to(values)
    return (mask * values).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)
