"""The gradient steps that keep predictions editable: which of the losses, how strong, how often."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from renoise.core.regularization_losses import kl_gradient, pair_gradient, patch_kl_gradient, pyramid_sizes, wide_type
from renoise.errors import InputError

CLIP = 100.0
"""Largest gradient of an element, either way, as in the published code; a constant patch's would be about 1/GUARD."""


@dataclass(frozen=True)
class EditRegularization:
    """Gradient steps on a prediction that keep it editable: L_edit of the paper.

    Args:
        lambda_pair: weight of L_pair, which takes neighboring positions' correlation away.
        lambda_patch_kl: weight of L_patch-KL, which draws 4×4 patches to the statistics of a noised image's prediction.
        lambda_kl: weight of pix2pix-zero's L_KL, which draws the whole prediction to N(0, 1).
        rounds: gradient steps of each prediction.
        shifts: random shifts that each step of L_pair averages over.
    """

    lambda_pair: float = 0.0
    lambda_patch_kl: float = 0.0
    lambda_kl: float = 0.0
    rounds: int = 4
    shifts: int = 5

    def __post_init__(self) -> None:
        names = ("lambda_pair", "lambda_patch_kl", "lambda_kl")
        for name in names:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"model.edit_losses.{name} must be 0 or more and finite, got {value}")
        for name in ("rounds", "shifts"):
            if getattr(self, name) < 1:
                raise InputError(f"model.edit_losses.{name} must be at least 1, got {getattr(self, name)}")
        if not any(getattr(self, name) for name in names):
            options = ", ".join(f"model.edit_losses.{name}" for name in names)
            raise InputError(f"one of {options} must be above 0, got 0 for all; null switches the losses off")

    @property
    def needs_target(self) -> bool:
        """Whether `regularize` takes the prediction for a noised image too."""
        return self.lambda_patch_kl > 0

    def draws(self, height: int, width: int) -> tuple[int, ...]:
        """Shape (rounds, shifts, L, 2) of the uniform numbers that regularizing one image's prediction takes."""
        return (self.rounds, self.shifts, len(pyramid_sizes(height, width)), 2)

    def shifts_from(self, uniform: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Shifts s = 1 + ⌊u · half⌋ in 1 … half of the level's side, int64 of the shape of `uniform`.

        A shift of 0 would shrink the noise's variance. Shifts beyond half are left out because s and side − s give
        the same mean.

        Args:
            uniform: u in [0, 1), [rounds, shifts, L, 2, B].
            height: of the finest level, latent pixels.
            width: likewise.
        """
        if tuple(uniform.shape[:-1]) != self.draws(height, width):
            raise ValueError(f"uniform is {list(uniform.shape)}, expected {[*self.draws(height, width), 'B']}")
        halves = torch.tensor(pyramid_sizes(height, width), device=uniform.device)[..., None] // 2
        # In half precision the product could round up to the half itself, and the shift exceed it.
        return 1 + (uniform.to(wide_type(uniform)) * halves.clamp(min=1)).floor().long()

    def regularize(self, noise: torch.Tensor, target: torch.Tensor | None, uniform: torch.Tensor) -> torch.Tensor:
        """The prediction after `rounds` gradient steps, each on the KL terms first and on L_pair after them.

        Args:
            noise: the prediction δ, [B, C, h, w].
            target: the prediction for the noised image, [B, C, h, w]; None where not `needs_target`.
            uniform: numbers in [0, 1), [rounds, shifts, L, 2, B] (see `draws`), on the device of `noise`.

        Returns:
            [B, C, h, w] in float32 at least.
        """
        noise = noise.to(wide_type(noise))
        for by_draw in self.shifts_from(uniform, *noise.shape[-2:]):
            step = torch.zeros_like(noise)
            if self.lambda_patch_kl:
                if target is None:
                    raise ValueError("L_patch-KL needs a target")
                step = step + self.lambda_patch_kl * patch_kl_gradient(noise, target).clamp(-CLIP, CLIP)
            if self.lambda_kl:
                step = step + self.lambda_kl * kl_gradient(noise).clamp(-CLIP, CLIP)
            noise = noise - step
            if self.lambda_pair:
                # Draws are folded into the batch: [shifts, L, 2, B] with [shifts · B, C, h, w].
                folded = pair_gradient(noise.repeat(self.shifts, 1, 1, 1), by_draw.permute(1, 2, 0, 3).flatten(2))
                gradient = folded.unflatten(0, (self.shifts, -1)).mean(0)
                noise = noise - self.lambda_pair * gradient.clamp(-CLIP, CLIP)
        return noise
