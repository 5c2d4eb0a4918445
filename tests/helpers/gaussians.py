"""Gaussian predictions and random shifts for tests of edit regularization."""

from __future__ import annotations

import torch

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
