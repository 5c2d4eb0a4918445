"""The gradient of L_pair, by a few matrix products for all levels, axes, channels, images and shifts.

On a map X [h, w] of the pyramid, a shift s along the height has the loss a² with a = mean of X · roll(X, s), and the
gradient 2a · (roll(X, s) + roll(X, −s)) / (h · w). Both are simple in the coefficients Y = H_h X H_w of the Hartley
transform H (real, symmetric, orthogonal), where f numbers the rows of Y and P(f) = Σ_g Y(f, g)²:

    a = Σ_f cos(2πfs/h) · P(f) / (h · w)
    roll(X, s) + roll(X, −s) = H_h Z H_w  with  Z(f, g) = 2 cos(2πfs/h) · Y(f, g)

The mean gradient over S shifts therefore multiplies row f of Y by Σ_f' K(f, f') · P(f'), where

    K(f, f') = 4 / (S · h² · w²) · Σ_s cos(2πfs/h) · cos(2πf's/h).

The width works alike, on the columns of Y. The levels are stacked: the rows of a basis are the Hartley transforms of
all levels after their average pooling. Y then has a block for each pair of levels, and a mask keeps those of equal
levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from renoise.core.regularization_losses import pyramid_sizes


class PairGradient:
    """∂L_pair/∂noise, averaged over random shifts. Called with `noise` and the number of the gradient step.

    Args:
        shifts: int64 [num_reg_steps, num_ac_rolls, L, 2, B], by level (`pyramid_sizes`), axis (height, width) and
            image, at least 0 and less than the side of the noise.
        size: Height and width of the noise.
        dtype: Type of the noise, float32 or wider.
    """

    def __init__(self, shifts: torch.Tensor, size: tuple[int, int], dtype: torch.dtype) -> None:
        self.rows, self.columns, self.mask = _pyramid(size, dtype, shifts.device)
        self.row_kernels = _kernels(shifts[..., 0, :], self.rows)
        self.column_kernels = _kernels(shifts[..., 1, :], self.columns)

    def __call__(self, noise: torch.Tensor, reg_step: int) -> torch.Tensor:
        """Returns the gradient, [B, C, h, w]."""
        coefficients = self.rows.basis @ (noise @ self.columns.basis.mT) * self.mask  # Y, [B, C, Σh_l, Σw_l]
        power = coefficients.square()
        by_row = power.sum(3) @ self.row_kernels[reg_step]  # K is symmetric
        by_column = power.sum(2) @ self.column_kernels[reg_step]
        filtered = coefficients * (by_row[..., :, None] + by_column[..., None, :])
        return self.rows.basis.mT @ (filtered @ self.columns.basis)


@dataclass(frozen=True)
class _Axis:
    """One axis of the stacked levels. N is the sum of their sides.

    Args:
        basis: Hartley transform of each level after its average pooling, [N, side].
        cosine: cos(2πfs / side of the level) by row and shift s, [N, side].
        row: 0 … N − 1.
        level: Level of each row, int64 [N].
        weight: 4 / (h · w)² of the level where both rows are of one level, else 0, [N, N].
    """

    basis: torch.Tensor
    cosine: torch.Tensor
    row: torch.Tensor
    level: torch.Tensor
    weight: torch.Tensor


def _kernels(shifts: torch.Tensor, axis: _Axis) -> torch.Tensor:
    """Returns K of each gradient step and image, [num_reg_steps, B, N, N].

    Args:
        shifts: Of this axis, int64 [num_reg_steps, num_ac_rolls, L, B].
        axis: The axis.
    """
    by_image = shifts.permute(0, 3, 1, 2)  # [num_reg_steps, B, num_ac_rolls, L]
    cosine = axis.cosine[axis.row, by_image[..., axis.level]]
    return cosine.mT @ cosine * (axis.weight / by_image.shape[2])


@lru_cache(maxsize=8)
def _pyramid(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> tuple[_Axis, _Axis, torch.Tensor]:
    """Returns the two axes, and the mask [Σh_l, Σw_l] of the blocks of equal levels."""
    sizes = pyramid_sizes(*size)
    with torch.inference_mode(False):  # the tensors are kept, and autograd must be able to use them later
        rows, columns = (_axis([each[number] for each in sizes], sizes, dtype, device) for number in (0, 1))
        return rows, columns, (rows.level[:, None] == columns.level).to(dtype)


def _axis(sides: list[int], sizes: list[tuple[int, int]], dtype: torch.dtype, device: torch.device) -> _Axis:
    level = torch.arange(len(sides)).repeat_interleave(torch.tensor(sides))
    counts = torch.tensor([height * width for height, width in sizes], dtype=torch.float64)
    weight = torch.where(level[:, None] == level, 4 / counts[level].square(), 0)
    shift = torch.arange(sides[0])
    bases = [_pooled_hartley(side, sides[0], number) for number, side in enumerate(sides)]
    return _Axis(
        basis=torch.cat(bases).to(device, dtype),
        cosine=torch.cat([_angles(side, shift).cos() for side in sides]).to(device, dtype),
        row=torch.arange(sum(sides), device=device),
        level=level.to(device),
        weight=weight.to(device, dtype),
    )


def _pooled_hartley(side: int, finest: int, level: int) -> torch.Tensor:
    """Returns the Hartley transform of a level as a matrix on the finest map, float64 [side, finest]."""
    angles = _angles(side, torch.arange(side))
    pooled = ((angles.cos() + angles.sin()) / math.sqrt(side)).repeat_interleave(2**level, 1) / 2**level
    return torch.nn.functional.pad(pooled, (0, finest - pooled.shape[1]))  # pooling drops the last of an odd side


def _angles(side: int, position: torch.Tensor) -> torch.Tensor:
    """Returns 2π · frequency · position / side of all frequencies, float64 [side, positions]."""
    turns = torch.arange(side)[:, None] * position % side  # exact
    return turns.double() * (2 * math.pi / side)
