"""The paper's edit losses, which tell how far a prediction is from looking like noise, and their gradients.

    L_edit = λ_pair · L_pair + λ_patch-KL · L_patch-KL                     (ReNoise, 3.4; L_KL in the supplementary)

Every gradient is written out, so a step needs neither autograd nor a loop over images. Each image is a sum of its own:
its loss, gradient and result do not depend on what else is in the batch. Everything is computed in float32 at least,
whatever the prediction's type. Predictions are [B, C, h, w] with sides of at least 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

COARSEST = 8
"""The pyramid ends with the first map whose smaller side is no larger than this."""
PATCH = 4
"""Side of the patches of L_patch-KL."""
GUARD = 1e-6
"""Added to variances that are divided by or taken the logarithm of: a constant patch has none."""


def pyramid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the maps of L_pair, finest first: halved, rounding down, until the smaller side is at most 8."""
    sizes = [(height, width)]
    while min(sizes[-1]) > COARSEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def pair_loss(noise: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """L_pair = Σ over levels, axes, channels of (mean over positions of n · roll(n, s))², [B]; pix2pix-zero's.

    Args:
        noise: [B, C, h, w].
        shifts: s, int64 [L, 2, B]: by level (`pyramid_sizes`), axis (height, width) and image. A multiple of the side
            would penalize the variance itself.
    """
    loss = noise.new_zeros(len(noise), dtype=wide_type(noise))
    for level, by_axis in _levels(noise, shifts):
        for axis, shift in enumerate(by_axis):
            loss = loss + (level * _rolled(level, shift, axis)).mean((2, 3)).square().sum(1)
    return loss


def pair_gradient(noise: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """∂L_pair/∂noise, [B, C, h, w]; arguments as of `pair_loss`.

    With a = mean of n · roll(n, s), a level and axis give 2a · (roll(n, s) + roll(n, −s)) / (h · w).
    """
    total, *finer = [_level_gradient(*level) for level in _levels(noise, shifts)][::-1]
    for gradient in finer:
        total = gradient + _unpooled(total, gradient.shape)
    return total


def kl_loss(noise: torch.Tensor) -> torch.Tensor:
    """L_KL = v + m² − 1 − log v, [B]: twice KL(N(m, v) ‖ N(0, 1)), as pix2pix-zero has it.

    m and v are mean and unbiased variance of an image's whole prediction [C, h, w].
    """
    variance, mean = torch.var_mean(noise.to(wide_type(noise)).flatten(1), dim=1)
    return variance + mean.square() - 1 - (variance + GUARD).log()


def kl_gradient(noise: torch.Tensor) -> torch.Tensor:
    """∂L_KL/∂noise = 2m/N + (1 − 1/v) · 2(n − m)/(N − 1) with N = C · h · w, [B, C, h, w]."""
    noise = noise.to(wide_type(noise))
    variance, mean = torch.var_mean(noise, dim=(1, 2, 3), keepdim=True)
    count = noise[0].numel()
    return 2 * mean / count + (1 - 1 / (variance + GUARD)) * 2 * (noise - mean) / (count - 1)


def patch_kl_loss(noise: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L_patch-KL = Σ over 4×4 patches, channels of log(v₁/v₀) + (v₀ + (m₀ − m₁)²)/v₁ − 1, [B].

    That is twice KL(N(m₀, v₀) ‖ N(m₁, v₁)) of each patch of `noise` (0) and its counterpart of `target` (1), with
    unbiased variances: twice, because pix2pix-zero's L_KL is, and the paper's λ are scaled for it. Both are
    [B, C, h, w]; rows and columns beyond the last whole patch count for nothing.
    """
    _, mean, variance = _patches(noise, target)
    _, target_mean, target_variance = _patches(target, noise)
    target_variance = target_variance + GUARD
    distance = (variance + (mean - target_mean).square()) / target_variance
    return ((target_variance / (variance + GUARD)).log() + distance - 1).sum((1, 2, 3, 4, 5))


def patch_kl_gradient(noise: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """∂L_patch-KL/∂noise = 2(m₀ − m₁)/(16 v₁) + (1/v₁ − 1/v₀) · 2(n − m₀)/15, [B, C, h, w]; 0 outside of patches."""
    patches, mean, variance = _patches(noise, target)
    _, target_mean, target_variance = _patches(target, noise)
    by_mean = 2 * (mean - target_mean) / (PATCH**2 * (target_variance + GUARD))
    by_variance = (1 / (target_variance + GUARD) - 1 / (variance + GUARD)) * 2 / (PATCH**2 - 1)
    gradient = by_mean + by_variance * (patches - mean)
    return _padded(gradient.flatten(4, 5).flatten(2, 3), noise.shape)


def wide_type(*tensors: torch.Tensor) -> torch.dtype:
    """The type that all of them are computed in: float32 or wider."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _levels(noise: torch.Tensor, shifts: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each level of the pyramid [B, C, h_l, w_l] with its shifts [2, B], finest first."""
    level = noise.to(wide_type(noise))
    for number, (_, by_axis) in enumerate(zip(pyramid_sizes(*noise.shape[-2:]), shifts, strict=True)):
        level = F.avg_pool2d(level, 2) if number else level
        yield level, by_axis


def _rolled(level: torch.Tensor, shift: torch.Tensor, axis: int) -> torch.Tensor:
    """`torch.roll` along height (0) or width (1), each image [C, h, w] by its own shift [B]."""
    side = level.shape[2 + axis]
    index = (torch.arange(side, device=level.device) - shift[:, None]) % side
    index = index[:, None, :, None] if axis == 0 else index[:, None, None, :]
    return level.gather(2 + axis, index.expand_as(level))


def _level_gradient(level: torch.Tensor, by_axis: torch.Tensor) -> torch.Tensor:
    """Gradient of one level's terms of L_pair with respect to that level."""
    total = torch.zeros_like(level)
    for axis, shift in enumerate(by_axis):
        rolled = _rolled(level, shift, axis)
        mean = (level * rolled).mean((2, 3), keepdim=True)
        total = total + 2 * mean * (rolled + _rolled(level, -shift, axis)) / (level.shape[2] * level.shape[3])
    return total


def _unpooled(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Transposed 2×2 average pooling to a map of `shape`; what pooling left over of an odd side takes nothing."""
    return _padded(gradient.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4, shape)


def _padded(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Zeros below and to the right, up to `shape`."""
    return F.pad(gradient, (0, shape[3] - gradient.shape[3], 0, shape[2] - gradient.shape[2]))


def _patches(noise: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """4×4 patches [B, C, h // 4, 4, w // 4, 4] in the type that both tensors share, their means and variances."""
    rows, columns = (side // PATCH for side in noise.shape[-2:])
    whole = noise[..., : rows * PATCH, : columns * PATCH].to(wide_type(noise, other))
    patches = whole.reshape(*noise.shape[:2], rows, PATCH, columns, PATCH)
    mean = patches.mean((3, 5), keepdim=True)
    # Not `torch.var`, which warns where a map is too small for any patch.
    variance = (patches - mean).square().sum((3, 5), keepdim=True) / (PATCH**2 - 1)
    return patches, mean, variance
