"""The losses of edit regularization and the gradients of the KL losses.

They measure how far a prediction is from white noise.

    L_edit = λ_pair · L_pair + λ_patch-KL · L_patch-KL              (ReNoise, section 3.4; L_KL in the supplement)

Every gradient has a closed form, so a step needs no autograd and no loop over images. The loss of an image does not
depend on the other images of the batch. Everything is computed in float32 or wider. Predictions are [B, C, h, w] with
sides of at least 2. The gradient of L_pair is in `pair_gradient`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

MAX_COARSEST_SIDE = 8
"""The pyramid ends with the first map whose smaller side is at most this."""
PATCH = 4
"""Side of the patches of L_patch-KL."""
EPSILON = 1e-6
"""Added to variances before a division or logarithm, because a constant patch has variance 0."""


def pyramid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Returns the sizes of the maps of L_pair, finest first: halved until the smaller side is at most 8."""
    sizes = [(height, width)]
    while min(sizes[-1]) > MAX_COARSEST_SIDE:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def pair_loss(noise: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Returns L_pair = Σ over levels, axes, channels of (mean over positions of n · roll(n, s))², [B].

    The pairwise loss of pix2pix-zero (arXiv 2302.03027, section 3.2).

    Args:
        noise: n, [B, C, h, w].
        shifts: s, int64 [L, 2, B], by level (`pyramid_sizes`), axis (height, width) and image. A multiple of the side
            would penalize the variance itself.
    """
    loss = noise.new_zeros(len(noise), dtype=wide_dtype(noise))
    for level, by_axis in _levels(noise, shifts):
        for axis, shift in enumerate(by_axis):
            loss = loss + (level * _rolled(level, shift, axis)).mean((2, 3)).square().sum(1)
    return loss


def kl_loss(noise: torch.Tensor) -> torch.Tensor:
    """Returns L_KL = v + m² − 1 − log v, [B]: twice KL(N(m, v) ‖ N(0, 1)), as in pix2pix-zero.

    m and v are the mean and the unbiased variance of an image's whole prediction.

    Args:
        noise: [B, C, h, w].
    """
    variance, mean = torch.var_mean(noise.to(wide_dtype(noise)).flatten(1), dim=1)
    return variance + mean.square() - 1 - (variance + EPSILON).log()


def kl_gradient(noise: torch.Tensor) -> torch.Tensor:
    """Returns ∂L_KL/∂noise = 2m/N + (1 − 1/v) · 2(n − m)/(N − 1) with N = C · h · w, [B, C, h, w]."""
    noise = noise.to(wide_dtype(noise))
    variance, mean = torch.var_mean(noise, dim=(1, 2, 3), keepdim=True)
    count = noise[0].numel()
    rate = (1 - 1 / (variance + EPSILON)) * (2 / (count - 1))
    return torch.addcmul(mean * (2 / count), noise - mean, rate)


def patch_kl_loss(noise: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns L_patch-KL = Σ over 4×4 patches, channels of log(v₁/v₀) + (v₀ + (m₀ − m₁)²)/v₁ − 1, [B].

    This is twice KL(N(m₀, v₀) ‖ N(m₁, v₁)) between each patch of `noise` (0) and the same patch of `target` (1), with
    unbiased variances. The factor 2 is that of pix2pix-zero's L_KL, which the paper's λ are scaled for. Positions
    beyond the last whole patch are not counted.

    Args:
        noise: [B, C, h, w].
        target: [B, C, h, w].
    """
    _, mean, variance = _patches(noise)
    _, target_mean, target_variance = _patches(target)
    target_variance = target_variance + EPSILON
    distance = (variance + (mean - target_mean).square()) / target_variance
    return ((target_variance / (variance + EPSILON)).log() + distance - 1).sum((1, 2, 3, 4, 5))


class PatchKLGradient:
    """∂L_patch-KL/∂noise, bounded so that no gradient step passes the target. Called with `noise`, [B, C, h, w].

    The gradient is 2(m₀ − m₁)/(16 v₁) + (1/v₁ − 1/v₀) · 2(n − m₀)/15. With q = √(v₁/v₀), a step of size λ along it is

        n + (m₁ − m₀) · λ/(8 v₁) + (n − m₀)(q − 1) · 2λ(q + 1)/(15 v₁).

    The factors λ/(8 v₁) and 2λ(q + 1)/(15 v₁) are at most 1. So a step moves a patch's mean at most to m₁, and scales
    n − m₀ at most by q, which makes the variance v₁. Without the limits a step overshoots where a patch is nearly flat.
    Where both factors are below 1, this is exactly the gradient of `patch_kl_loss`.

    Args:
        target: [B, C, h, w].
        step_size: λ_patch-KL, above 0.
    """

    def __init__(self, target: torch.Tensor, step_size: float) -> None:
        _, self.mean, variance = _patches(target)
        variance = variance + EPSILON
        self.std = variance.sqrt()
        self.limit = 1 / step_size
        self.by_mean = (2 / PATCH**2 / variance).clamp(max=self.limit)
        self.by_variance = 2 / (PATCH**2 - 1) / variance

    def __call__(self, noise: torch.Tensor) -> torch.Tensor:
        """Returns the gradient, [B, C, h, w] in the wider type of `noise` and the target."""
        patches, mean, variance = _patches(noise)
        ratio = self.std * (variance + EPSILON).rsqrt()  # q
        rate = torch.addcmul(self.by_variance, self.by_variance, ratio).clamp(max=self.limit)
        gradient = torch.addcmul((mean - self.mean) * self.by_mean, patches - mean, (1 - ratio) * rate)
        return _padded(gradient.flatten(4, 5).flatten(2, 3), noise.shape)


def wide_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Returns the type to compute in: the tensor's, at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _levels(noise: torch.Tensor, shifts: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields each level of the pyramid [B, C, h_l, w_l] with its shifts [2, B], finest first."""
    level = noise.to(wide_dtype(noise))
    for number, (_, by_axis) in enumerate(zip(pyramid_sizes(*noise.shape[-2:]), shifts, strict=True)):
        level = F.avg_pool2d(level, 2) if number else level
        yield level, by_axis


def _rolled(level: torch.Tensor, shift: torch.Tensor, axis: int) -> torch.Tensor:
    """Rolls along height (0) or width (1) like `torch.roll`, each image [C, h, w] by its own shift [B]."""
    side = level.shape[2 + axis]
    index = (torch.arange(side, device=level.device) - shift[:, None]) % side
    index = index[:, None, :, None] if axis == 0 else index[:, None, None, :]
    return level.gather(2 + axis, index.expand_as(level))


def _padded(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Pads with zeros below and to the right, up to `shape`."""
    if gradient.shape == shape:
        return gradient  # padding by nothing would copy
    return F.pad(gradient, (0, shape[3] - gradient.shape[3], 0, shape[2] - gradient.shape[2]))


def _patches(noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns 4×4 patches [B, C, h // 4, 4, w // 4, 4] in float32 or wider, their means and unbiased variances."""
    rows, columns = (side // PATCH for side in noise.shape[-2:])
    whole = noise[..., : rows * PATCH, : columns * PATCH].to(wide_dtype(noise))
    patches = whole.reshape(*noise.shape[:2], rows, PATCH, columns, PATCH)
    if not patches.numel():  # the map is too small for one patch, of which `torch.var_mean` warns
        none = patches[:, :, :, :1, :, :1]
        return patches, none, none
    variance, mean = torch.var_mean(patches, (3, 5), keepdim=True)
    return patches, mean, variance
