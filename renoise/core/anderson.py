"""Anderson acceleration of the renoising iteration."""

from __future__ import annotations

import torch

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Acceleration, Renoising
from renoise.utils.precision import widest_float

MAX_MEMORY = 5
RIDGE = 1e-10
"""Of the least squares, relative to the trace of the Gram matrix."""
MAX_MIXING = 4.0
"""Largest Σ|γ|. Beyond it the estimates are nearly linearly dependent, and the mix would be far outside them."""
MAX_RISES = 5
"""How often the residual of an image may rise in a step before the image is renoised plainly for the rest of it."""
ROUNDING = 16
"""Residuals below so many units of rounding rise and fall by chance."""


class Anderson(Renoising):
    """Renoising with Anderson acceleration, as AIDI (arXiv 2309.04907) has it for DDIM.

    With f_k = G(zᵏ⁻¹) − zᵏ⁻¹, the next estimate is

        zᵏ = G(zᵏ⁻¹) − Σ_j γ_j (G(zᵏ⁻¹) − G(zᵏ⁻¹⁻ʲ)),  γ = argmin ‖f_k − Σ_j γ_j (f_k − f_{k−j})‖,

    for each image by itself. It takes no network call more than `Renoising`, and leaves a smaller error. The safeguard:
    where an image's residual rises, its memory is emptied and the next estimate is G(zᵏ⁻¹). The same is taken where
    Σ|γ_j| > 4. At the fifth rise the image is renoised plainly for the rest of the step (`Solution.fell_back`). A rise
    often passes, so nothing is taken back at once, but a step never ends on one: its solution is G of the estimate
    with the least residual where that is not the last. Where a step starts at z_{t-1}, which is at the wrong noise
    level, the first residual is left out.

    Args:
        memory: How many earlier estimates are mixed, 1 to 5.

    Raises:
        ValueError: `memory` is out of range.

    Example:
        >>> import torch
        >>> from renoise import Anderson, Step, StepEquation
        >>> step = Step(timestep=500, phi=1.0, psi=-0.5, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
        >>> equation = StepEquation(step, torch.ones(1, 4, 8, 8), predict=lambda latents, index: latents)
        >>> round(float(Anderson().solve(equation, weights=[0.0, 0.0, 1.0]).latents.mean()), 4)  # the fixed point is 2
        2.0
    """

    def __init__(self, memory: int = 1) -> None:
        if not 1 <= memory <= MAX_MEMORY:
            raise ValueError(f"memory must be 1 to {MAX_MEMORY}, got {memory}")
        self.memory = memory

    def acceleration(self, equation: StepEquation) -> Acceleration:
        """Returns the memory of one step."""
        return _Mixing(equation, self.memory)


class _Mixing(Acceleration):
    """The last estimates of one step, for all B images."""

    def __init__(self, equation: StepEquation, memory: int) -> None:
        previous = equation.previous
        self.skip = equation.warm_start is None  # the first residual of a cold start
        self.renoised = previous.new_zeros(memory, *previous.shape)  # G of them, newest first
        self.defects = torch.zeros_like(self.renoised)  # f of the same
        self.known = torch.zeros(len(previous), dtype=torch.int64, device=previous.device)  # how many, by image
        self.residual = previous.new_full((len(previous),), torch.inf)  # of the newest
        self.rises = torch.zeros_like(self.known)
        self.best = torch.zeros_like(previous)  # G of the estimate with the least residual
        self.least = torch.full_like(self.residual, torch.inf)
        self.rounding = ROUNDING * torch.finfo(previous.dtype).eps

    @property
    def fell_back(self) -> torch.Tensor:  # type: ignore[override]
        """Whether the safeguard failed, bool [B]."""
        return self.rises >= MAX_RISES

    def next_estimate(
        self, estimate: torch.Tensor, renoised: torch.Tensor, residual: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        """Mixes G(zᵏ⁻¹) with the earlier ones; see `Anderson`."""
        if self.skip:
            self.skip = False
            return renoised
        defect = renoised - estimate
        rose = (residual > self.residual[index]) & (residual > self.rounding)
        self.rises[index] += rose
        usable = self.known[index].masked_fill(rose, 0)
        mixed, passes = self._mixed(renoised, defect, usable, index)
        passes &= ~self.fell_back[index] & (usable > 0)
        self._remember(renoised, defect, residual, usable, index)
        return torch.where(_column(passes), mixed, renoised)

    def answer(
        self, following: torch.Tensor, residual: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns G of the estimate with the least residual where that is not the newest one."""
        least = self.least[index]
        return torch.where(_column(residual > least), self.best[index], following), torch.minimum(residual, least)

    def restart(self) -> None:
        """Forgets earlier estimates."""
        self.known.zero_()
        self.residual.fill_(torch.inf)
        self.least.fill_(torch.inf)

    def _mixed(
        self, renoised: torch.Tensor, defect: torch.Tensor, usable: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the mix, [n, C, h, w], and whether its Σ|γ| is small enough, bool [n]."""
        positions = torch.arange(len(self.defects), device=index.device)
        used = (positions < usable[:, None])[..., None]  # [n, m, 1]
        dtype = widest_float(index.device)
        changes = (defect - self.defects[:, index]).transpose(0, 1).flatten(2).to(dtype) * used
        gram = changes @ changes.mT
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        ridge = RIDGE * trace + torch.finfo(gram.dtype).tiny
        identity = torch.eye(len(positions), dtype=gram.dtype, device=gram.device)
        right = changes @ defect.flatten(1).to(dtype)[..., None]
        gamma = torch.linalg.solve_ex(gram + ridge * identity, right)[0] * used  # [n, m, 1]
        moves = (renoised - self.renoised[:, index]).transpose(0, 1).flatten(2)
        step = (gamma * moves).sum(1).to(renoised).view_as(renoised)
        return renoised - step, gamma.abs().sum((1, 2)) <= MAX_MIXING  # false where γ is NaN

    def _remember(
        self,
        renoised: torch.Tensor,
        defect: torch.Tensor,
        residual: torch.Tensor,
        usable: torch.Tensor,
        index: torch.Tensor,
    ) -> None:
        for kept, new in ((self.renoised, renoised), (self.defects, defect)):
            kept[:, index] = torch.cat([new[None], kept[:-1, index]])
        self.known[index] = (usable + 1).clamp(max=len(self.renoised))
        self.residual[index] = residual
        is_best = residual <= self.least[index]
        self.best[index] = torch.where(_column(is_best), renoised, self.best[index])
        self.least[index] = torch.minimum(residual, self.least[index])


def _column(values: torch.Tensor) -> torch.Tensor:
    """Returns values of images, [n], such that they broadcast against latents, [n, 1, 1, 1]."""
    return values[:, None, None, None]
