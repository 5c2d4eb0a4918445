"""The implicit equation z_t = G(z_t) of one inverted step, and what a solver of it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from renoise.core.step import Step
from renoise.utils.configurable import Configurable

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(latents [n, C, h, w], index int64 [n]) -> the network's output. `index` says which images of the batch they are."""

Regularize = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(prediction, the latents it was made at, index, k) -> the regularized prediction, δᵏ − ∇L_edit(δᵏ)."""

Stop = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(residual [n], evaluations of G so far, int64 [n], index int64 [n]) -> whether each image stops now, bool [n]."""


@dataclass(frozen=True)
class StepEquation:
    """z_t = G(z_t) = (z_{t-1} − ψ ε_θ(z_t, t, c) − ρ ε) / φ for B images.

    Args:
        step: The step of the sampler to invert.
        previous: z_{t-1}, [B, C, h, w].
        predict: The network.
        noise: ε_t, [B, C, h, w]. None where ρ = 0.
        regularize: Applied to predictions before they are used. None leaves them as they are.
        warm_start: z⁰ where it is better than z_{t-1}, [B, C, h, w]. None starts at z_{t-1}, as the paper does.

    Example:
        >>> import torch
        >>> from renoise import Step, StepEquation
        >>> step = Step(timestep=500, phi=1.0, psi=-0.5, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
        >>> equation = StepEquation(step, torch.ones(1, 4, 8, 8), predict=lambda latents, index: latents)
        >>> index = torch.tensor([0])
        >>> estimate = equation.previous
        >>> equation.renoise(equation.predict(estimate, index), estimate, index).mean()
        tensor(1.5000)
    """

    step: Step
    previous: torch.Tensor
    predict: Predict
    noise: torch.Tensor | None = None
    regularize: Regularize | None = None
    warm_start: torch.Tensor | None = None

    @property
    def start(self) -> torch.Tensor:
        """z⁰, the estimate that a solver starts from."""
        return self.previous if self.warm_start is None else self.warm_start

    def renoise(self, prediction: torch.Tensor, estimate: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Returns G of some images from the prediction made at their estimates.

        Args:
            prediction: [n, C, h, w].
            estimate: [n, C, h, w].
            index: Positions of the images in the batch, int64 [n].
        """
        noise = None if self.noise is None else self.noise[index]
        renoised: torch.Tensor = self.step.renoise_from(self.previous[index], estimate, prediction, noise)
        return renoised

    def residual(self, estimate: torch.Tensor, renoised: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Returns ‖φ (z^{k+1} − z^k)‖ / ‖z_{t-1}‖ of some images, [n].

        It is the error that the sampler's own step from z^k leaves, relative to the latents that it should lead to.
        """
        defect = self.step.defect(estimate, renoised).flatten(1).norm(dim=1)
        residual: torch.Tensor = defect / self.previous[index].flatten(1).norm(dim=1)
        return residual


@dataclass(frozen=True)
class Solution:
    """What a solver found for B images.

    Args:
        latents: z_t, [B, C, h, w].
        iterations: How often G was evaluated for each image, int64 [B].
        residual: Of the last evaluation, see `StepEquation.residual`, [B].
        converged: Whether the residual reached the tolerance, bool [B]. None where no tolerance was given.
        fell_back: Whether an accelerated solver gave up and renoised plainly, bool [B]. None where the solver cannot.

    Example:
        >>> import torch
        >>> from renoise import Solution
        >>> latents, iterations = torch.zeros(1, 4, 8, 8), torch.tensor([3])
        >>> Solution(latents, iterations, residual=torch.tensor([1e-4]), converged=torch.tensor([True])).iterations
        tensor([3])
    """

    latents: torch.Tensor
    iterations: torch.Tensor
    residual: torch.Tensor
    converged: torch.Tensor | None
    fell_back: torch.Tensor | None = None


class Solver(Configurable, ABC):
    """Solves z = G(z), each image by itself. Subclasses have typed constructor arguments, which are their options.

    Example:
        >>> import torch
        >>> from renoise import Renoising, Step, StepEquation
        >>> step = Step(timestep=500, phi=1.2, psi=-0.3, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
        >>> equation = StepEquation(step, torch.ones(1, 4, 8, 8), predict=lambda latents, index: latents.sin())
        >>> solution = Renoising().solve(equation, weights=[0.0] * 20 + [1.0], tolerance=1e-4)
        >>> bool(solution.converged)
        True
    """

    @abstractmethod
    def solve(
        self,
        equation: StepEquation,
        weights: Sequence[float],
        tolerance: float | None = None,
        stop: Stop | None = None,
    ) -> Solution:
        """Solves the equation of one step.

        Args:
            equation: Of B images.
            weights: w_1 … w_n of the estimates z¹ … zⁿ, of which the result is the mean. Their number is the most
                evaluations of G for an image. They sum to 1 and the last one is above 0.
            tolerance: An image stops as soon as its residual is at most this. None never stops early.
            stop: Another reason for an image to stop, such as a budget. None is none.
        """
