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
    where an image's residual rises, its memory is emptied and the estimate is G(zᵏ⁻¹). The same is taken where
    Σ|γ_j| > 4. After a second rise the image is renoised plainly for the rest of the step (`Solution.fell_back`). Where
    a step starts at z_{t-1}, which is at the wrong noise level, the first residual is left out.

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
        self.memory = memory
        self.skip = 1 if equation.warm_start is None else 0  # the first residual of a cold start
        self.renoised: list[torch.Tensor] = []  # G of the last estimates, newest last, each [B, C, h, w]
        self.defects: list[torch.Tensor] = []  # f of the same
        self.usable = torch.zeros(len(previous), dtype=torch.int64, device=previous.device)  # of them, by image
        self.norm = torch.full((len(previous),), torch.inf, dtype=torch.float64, device=previous.device)
        self.rises = torch.zeros_like(self.usable)
        self.rounding = ROUNDING * torch.finfo(previous.dtype).eps * previous.flatten(1).double().norm(dim=1)

    @property
    def fell_back(self) -> torch.Tensor:  # type: ignore[override]
        """Whether the safeguard failed, bool [B]."""
        return self.rises >= MAX_RISES

    def next_estimate(self, estimate: torch.Tensor, renoised: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Mixes G(zᵏ⁻¹) with the earlier ones; see `Anderson`."""
        defect = renoised - estimate
        norm = defect.flatten(1).double().norm(dim=1)
        rose = (norm > self.norm[index]) & (norm > self.rounding[index])
        self.rises[index] += rose
        usable = self.usable[index].masked_fill(rose, 0)
        mixed = renoised
        if self.defects:
            mixed = self._mixed(renoised, defect, usable.masked_fill(self.fell_back[index], 0), index)
        self._remember(renoised, defect, norm, usable, index)
        return mixed

    def restart(self) -> None:
        """Forgets earlier estimates."""
        self.usable.zero_()
        self.norm.fill_(torch.inf)

    def _mixed(
        self, renoised: torch.Tensor, defect: torch.Tensor, usable: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mix, or G itself where the safeguard does not let it pass, [n, C, h, w]."""
        ages = torch.arange(1, len(self.defects) + 1, device=index.device)
        known = (ages <= usable[:, None])[..., None]  # [n, m, 1]
        earlier = torch.stack([kept[index] for kept in self.defects[::-1]], dim=1)  # [n, m, C, h, w]
        changes = (defect[:, None] - earlier).flatten(2).double() * known
        gram = changes @ changes.mT
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        ridge = RIDGE * trace + torch.finfo(gram.dtype).tiny
        identity = torch.eye(len(ages), dtype=gram.dtype, device=gram.device)
        right = changes @ defect.flatten(1).double()[..., None]
        gamma = torch.linalg.solve_ex(gram + ridge * identity, right)[0] * known  # [n, m, 1]
        earlier = torch.stack([kept[index] for kept in self.renoised[::-1]], dim=1)
        step = (gamma * (renoised[:, None] - earlier).flatten(2)).sum(1).to(renoised).view_as(renoised)
        passes = gamma.abs().sum((1, 2)) <= MAX_MIXING  # false where γ is NaN
        return torch.where(passes[:, None, None, None], renoised - step, renoised)

    def _remember(
        self,
        renoised: torch.Tensor,
        defect: torch.Tensor,
        norm: torch.Tensor,
        usable: torch.Tensor,
        index: torch.Tensor,
    ) -> None:
        if self.skip:
            self.skip -= 1
            return
        for kept, new in ((self.renoised, renoised), (self.defects, defect)):
            whole = new.new_zeros(len(self.usable), *new.shape[1:])
            whole[index] = new
            kept.append(whole)
            del kept[: -self.memory]
        self.usable[index] = (usable + 1).clamp(max=self.memory)
        self.norm[index] = norm
