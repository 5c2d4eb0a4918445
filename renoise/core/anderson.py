"""Anderson acceleration of the renoising iteration."""

from __future__ import annotations

import torch

from renoise.core.fixed_point import StepEquation
from renoise.core.renoise import Acceleration, Renoising

MAX_MEMORY = 5
RIDGE = 1e-10
"""Of the least squares, relative to the trace of the Gram matrix."""
MAX_MIXING = 4.0
"""Largest Σ|γ|. Beyond it the estimates are nearly linearly dependent, and the mix would be far outside them."""
MAX_RISES = 2
"""How often the residual of an image may rise in a step before the image is renoised plainly for the rest of it."""
ROUNDING = 16
"""Residuals below so many units of rounding rise and fall by chance."""


class Anderson(Renoising):
    """Renoising with Anderson acceleration, as AIDI (arXiv 2309.04907) has it for DDIM.

    With f_k = G(zᵏ⁻¹) − zᵏ⁻¹, the next estimate is

        zᵏ = G(zᵏ⁻¹) − Σ_j γ_j (G(zᵏ⁻¹) − G(zᵏ⁻¹⁻ʲ)),  γ = argmin ‖f_k − Σ_j γ_j (f_k − f_{k−j})‖,

    for each image by itself. It takes no network call more than `Renoising`, and leaves a smaller error. The safeguard:
    an estimate whose residual is above the image's least so far is mixed with the best estimate alone, and is not
    remembered. Where Σ|γ_j| > 4, the next estimate is G(zᵏ⁻¹). After a third rise the image is renoised plainly for the
    rest of the step, from its best estimate (`Solution.fell_back`). Where a step starts at z_{t-1}, which is at the
    wrong noise level, the first residual is left out.

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
    """The best estimates of one step, for all B images. Each is better than the one before it."""

    def __init__(self, equation: StepEquation, memory: int) -> None:
        previous = equation.previous
        norm = previous.flatten(1).double().norm(dim=1)
        self.skip = equation.warm_start is None  # the first residual of a cold start
        self.renoised = previous.new_zeros(memory, *previous.shape)  # G of them, newest first
        self.defects = torch.zeros_like(self.renoised)  # f of the same
        self.known = torch.zeros(len(previous), dtype=torch.int64, device=previous.device)  # how many, by image
        self.least = torch.full_like(norm, torch.inf)  # norm of the newest f
        self.rises = torch.zeros_like(self.known)
        self.rounding = ROUNDING * torch.finfo(previous.dtype).eps * norm

    @property
    def fell_back(self) -> torch.Tensor:  # type: ignore[override]
        """Whether the safeguard failed, bool [B]."""
        return self.rises > MAX_RISES

    def next_estimate(self, estimate: torch.Tensor, renoised: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Mixes G(zᵏ⁻¹) with those of better estimates; see `Anderson`."""
        if self.skip:
            self.skip = False
            return renoised
        defect = renoised - estimate
        norm = defect.flatten(1).double().norm(dim=1)
        rose = (norm > self.least[index]) & (norm > self.rounding[index])
        self.rises[index] += rose
        usable = torch.where(rose, self.known[index].clamp(max=1), self.known[index])
        mixed = self._mixed(renoised, defect, usable, index)
        plain = torch.where(_column(rose), self.renoised[0, index], renoised)
        mixed = torch.where(_column(self.fell_back[index]), plain, mixed)
        self._remember(renoised, defect, norm, rose, index)
        return mixed

    def restart(self) -> None:
        """Forgets earlier estimates."""
        self.known.zero_()
        self.least.fill_(torch.inf)

    def _mixed(
        self, renoised: torch.Tensor, defect: torch.Tensor, usable: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mix, or G itself where the safeguard does not let it pass, [n, C, h, w]."""
        positions = torch.arange(len(self.defects), device=index.device)
        used = (positions < usable[:, None])[..., None]  # [n, m, 1]
        changes = (defect - self.defects[:, index]).transpose(0, 1).flatten(2).double() * used
        gram = changes @ changes.mT
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        ridge = RIDGE * trace + torch.finfo(gram.dtype).tiny
        identity = torch.eye(len(positions), dtype=gram.dtype, device=gram.device)
        right = changes @ defect.flatten(1).double()[..., None]
        gamma = torch.linalg.solve_ex(gram + ridge * identity, right)[0] * used  # [n, m, 1]
        moves = (renoised - self.renoised[:, index]).transpose(0, 1).flatten(2)
        step = (gamma * moves).sum(1).to(renoised).view_as(renoised)
        passes = gamma.abs().sum((1, 2)) <= MAX_MIXING  # false where γ is NaN
        return torch.where(_column(passes), renoised - step, renoised)

    def _remember(
        self, renoised: torch.Tensor, defect: torch.Tensor, norm: torch.Tensor, rose: torch.Tensor, index: torch.Tensor
    ) -> None:
        """Keeps the estimates that are better than all before them."""
        for kept, new in ((self.renoised, renoised), (self.defects, defect)):
            shifted = torch.cat([new[None], kept[:-1, index]])
            kept[:, index] = torch.where(_column(rose), kept[:, index], shifted)
        self.known[index] = torch.where(rose, self.known[index], (self.known[index] + 1).clamp(max=len(self.renoised)))
        self.least[index] = torch.where(rose, self.least[index], norm)


def _column(values: torch.Tensor) -> torch.Tensor:
    """Returns values of images, [n], such that they broadcast against latents, [n, 1, 1, 1]."""
    return values[:, None, None, None]
