"""Gaussian predictions, random shifts and the plain formula of L_pair for tests of edit regularization."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from renoise.core.edit_regularization import EditRegularization


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Returns standard normal numbers of a shape."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def draw_uniform(
    regularization: EditRegularization, height: int, width: int, batch: int, seed: int = 0
) -> torch.Tensor:
    """Returns the uniform numbers of one prediction, [num_reg_steps, num_ac_rolls, L, 2, B]."""
    shape = regularization.uniform_shape(height, width)
    return torch.rand(*shape, batch, generator=torch.Generator().manual_seed(seed))


def draw_shifts(height: int, width: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Returns random shifts for L_pair, int64 [L, 2, B]."""
    single = EditRegularization(lambda_pair=1, num_reg_steps=1, num_ac_rolls=1)
    return single.shifts(draw_uniform(single, height, width, batch, seed), height, width)[0, 0]


def pair_gradient_by_autograd(noise: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Returns ∂L_pair/∂noise, averaged over the rolls, with one `torch.roll` per image, roll, level and axis.

    Args:
        noise: [B, C, h, w].
        shifts: int64 [num_ac_rolls, L, 2, B].
    """
    noise = noise.detach().clone().requires_grad_()
    loss = noise.new_zeros(())
    for image, map in enumerate(noise):
        for level, by_roll in enumerate(shifts[..., image].unbind(1)):
            map = F.avg_pool2d(map, 2) if level else map
            for height_shift, width_shift in by_roll.tolist():
                loss = loss + (map * map.roll(height_shift, 1)).mean((1, 2)).square().sum()
                loss = loss + (map * map.roll(width_shift, 2)).mean((1, 2)).square().sum()
    (gradient,) = torch.autograd.grad(loss / len(shifts), noise)
    return gradient
