"""Edit regularization: the gradient steps on L_edit that keep predictions editable (ReNoise, section 3.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from renoise.core.pair_gradient import PairGradient
from renoise.core.regularization_losses import PatchKLGradient, kl_gradient, pyramid_sizes, wide_dtype

MAX_GRADIENT = 100.0
"""Gradients are clipped to ± this value, as in the published code."""


@dataclass(frozen=True)
class EditRegularization:
    """Gradient steps on a prediction, L_edit = λ_pair · L_pair + λ_patch-KL · L_patch-KL + λ_KL · L_KL.

    Args:
        lambda_pair: Weight of L_pair, which removes correlation between neighboring positions.
        lambda_patch_kl: Weight of L_patch-KL, which moves 4×4 patches to the statistics of a noised image's prediction.
        lambda_kl: Weight of pix2pix-zero's L_KL, which moves the whole prediction to N(0, 1).
        num_reg_steps: Gradient steps on each prediction.
        num_ac_rolls: Random shifts that each gradient step of L_pair averages over.
        reference_size: Side of the latents that λ_pair and λ_KL are meant for. Their gradients per element go with
            1/(h · w), so both weights are multiplied by h · w / reference_size². None is the paper's literal formula.

    Raises:
        ValueError: A value is out of range, or all weights are 0.

    Example:
        >>> import torch
        >>> from renoise import EditRegularization
        >>> regularization = EditRegularization(lambda_kl=20.0)
        >>> uniform = torch.zeros(*regularization.uniform_shape(8, 8), 1)
        >>> regularization.regularize(torch.randn(1, 4, 8, 8), target=None, uniform=uniform).shape
        torch.Size([1, 4, 8, 8])
    """

    lambda_pair: float = 0.0
    lambda_patch_kl: float = 0.0
    lambda_kl: float = 0.0
    num_reg_steps: int = 4
    num_ac_rolls: int = 5
    reference_size: int | None = None

    def __post_init__(self) -> None:
        names = ("lambda_pair", "lambda_patch_kl", "lambda_kl")
        for name in names:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be 0 or more and finite, got {value}")
        for name in ("num_reg_steps", "num_ac_rolls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.reference_size is not None and self.reference_size < 1:
            raise ValueError(f"reference_size must be 1 or more, got {self.reference_size}; null scales no weight")
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"one of {', '.join(names)} must be above 0, got 0 for all; null turns regularization off")

    @property
    def needs_target(self) -> bool:
        """Whether `regularize` needs the prediction for a noised image."""
        return self.lambda_patch_kl > 0

    def uniform_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Returns (num_reg_steps, num_ac_rolls, L, 2), the shape of the numbers that one prediction of an image takes.

        Args:
            height: Of the latents.
            width: Of the latents.
        """
        return (self.num_reg_steps, self.num_ac_rolls, len(pyramid_sizes(height, width)), 2)

    def shifts(self, uniform: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Returns shifts s = 1 + ⌊u · side / 2⌋ in 1 … side / 2 of each level, int64 of the shape of `uniform`.

        A shift of 0 would shrink the variance of the noise. Shifts above half a side are not needed, because s and
        side − s give the same loss.

        Args:
            uniform: u in [0, 1), [num_reg_steps, num_ac_rolls, L, 2, B].
            height: Of the latents.
            width: Of the latents.
        """
        if tuple(uniform.shape[:-1]) != self.uniform_shape(height, width):
            expected = [*self.uniform_shape(height, width), "B"]
            raise ValueError(f"uniform must be {expected}, got {list(uniform.shape)}")
        # In half precision the product could round up to the half itself, and the shift exceed it.
        return 1 + (uniform.to(wide_dtype(uniform)) * _half_sides(height, width, uniform.device)).long()

    def regularize(self, noise: torch.Tensor, target: torch.Tensor | None, uniform: torch.Tensor) -> torch.Tensor:
        """Takes the gradient steps. Each one lowers the KL losses first, then L_pair.

        Args:
            noise: The prediction δ, as noise ε, [B, C, h, w].
            target: The prediction for the noised image, [B, C, h, w]. None where `needs_target` is false.
            uniform: Numbers in [0, 1) that the shifts are made of, [num_reg_steps, num_ac_rolls, L, 2, B].

        Returns:
            [B, C, h, w] in the type of `noise`, or in float32 where that is narrower.
        """
        with torch.autocast(noise.device.type, enabled=False):  # it would round matrix products to half precision
            return self._regularize(noise.to(wide_dtype(noise)), target, uniform)

    def _regularize(self, noise: torch.Tensor, target: torch.Tensor | None, uniform: torch.Tensor) -> torch.Tensor:
        size = (noise.shape[2], noise.shape[3])
        scale = 1.0 if self.reference_size is None else math.prod(size) / self.reference_size**2
        patch_kl_gradient = self._patch_kl_gradient(target, noise.dtype)
        pair_gradient = self._pair_gradient(uniform, noise)
        for reg_step in range(self.num_reg_steps):
            steps = []  # the gradients of both KL losses are taken at the same noise
            if patch_kl_gradient is not None:
                steps.append((self.lambda_patch_kl, patch_kl_gradient(noise)))
            if self.lambda_kl:
                steps.append((scale * self.lambda_kl, kl_gradient(noise)))
            for weight, gradient in steps:
                noise = _descend(noise, weight, gradient)
            if pair_gradient is not None:
                noise = _descend(noise, scale * self.lambda_pair, pair_gradient(noise, reg_step))
        return noise

    def _pair_gradient(self, uniform: torch.Tensor, noise: torch.Tensor) -> PairGradient | None:
        shifts = self.shifts(uniform, *noise.shape[-2:])
        return PairGradient(shifts, (noise.shape[2], noise.shape[3]), noise.dtype) if self.lambda_pair else None

    def _patch_kl_gradient(self, target: torch.Tensor | None, dtype: torch.dtype) -> PatchKLGradient | None:
        if not self.needs_target:
            return None
        if target is None:
            raise ValueError("target must be given: L_patch-KL needs one")
        return PatchKLGradient(target.to(dtype), self.lambda_patch_kl)


def _descend(noise: torch.Tensor, weight: float, gradient: torch.Tensor) -> torch.Tensor:
    """Returns the noise after a step down the clipped gradient."""
    return noise.sub(gradient.clamp(-MAX_GRADIENT, MAX_GRADIENT), alpha=weight)


@lru_cache(maxsize=8)
def _half_sides(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Returns half of the sides of each level, at least 1, int64 [L, 2, 1].

    They are kept, because copying them to a GPU in every call would make the CPU wait for it.
    """
    return (torch.tensor(pyramid_sizes(height, width)) // 2).clamp(min=1)[..., None].to(device)
