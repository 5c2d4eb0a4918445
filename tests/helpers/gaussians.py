"""Gaussian predictions and random shifts for tests of edit regularization."""

from __future__ import annotations

import torch

from renoise.core.edit_regularization import EditRegularization


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def draw(regularization: EditRegularization, height: int, width: int, batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*regularization.uniform_shape(height, width), batch, generator=generator)


def draw_shifts(height: int, width: int, batch: int, seed: int = 0) -> torch.Tensor:
    one = EditRegularization(lambda_pair=1, num_reg_steps=1, num_ac_rolls=1)
    return one.shifts(draw(one, height, width, batch, seed), height, width)[0, 0]
