"""The implicit equation z_t = G(z_t) of one inverted step, solved by renoising (ReNoise, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from renoise.core.step import Step
from renoise.errors import InputError

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(latents [n, C, h, w], rows int64 [n]) -> ε_θ of the same shape; `rows` says which images of the batch these are."""

Regularize = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(ε_θ, the latents that it was predicted at, rows, k) -> ε_θ − ∇L_edit(ε_θ)."""


@dataclass(frozen=True)
class AveragingWeights:
    """Weights w_1 … w_{K+1} of the estimates z¹ … z^{K+1} (the paper's Table 1), by the step's timestep t.

    Shorter lists leave the later estimates out; each list sums to 1.

    Args:
        below: weights of the steps with t < boundary.
        above: weights of all other steps.
        boundary: the timestep that parts them.
    """

    below: Sequence[float]
    above: Sequence[float]
    boundary: int = 250

    def at(self, timestep: float) -> Sequence[float]:
        """The weights of the step at `timestep`."""
        return self.below if timestep < self.boundary else self.above

    def validate(self, renoise_iterations: int) -> None:
        """Raises InputError where a list does not sum to 1 or is negative, or where the lists do not fit K."""
        for name, weights in (("below", self.below), ("above", self.above)):
            option = f"model.averaging_weights.{name}"
            if not abs(sum(weights) - 1) <= 0.011 or min(weights, default=-1) < 0:  # NaN is no sum either
                raise InputError(f"{option} must be at least 0 each and sum to 1, got {list(weights)}")
            if len(weights) > renoise_iterations + 1:
                raise InputError(
                    f"{option} holds {len(weights)} weights, but with model.renoise_iterations {renoise_iterations} "
                    f"there are {renoise_iterations + 1} estimates; null takes the last one alone"
                )
        if max(len(self.below), len(self.above)) <= renoise_iterations:
            raise InputError(
                f"model.averaging_weights use no estimate beyond the {max(len(self.below), len(self.above))}th, so "
                f"model.renoise_iterations {renoise_iterations} would change nothing; null takes the last one alone"
            )


@dataclass(frozen=True)
class Renoising:
    """How one step is solved.

    Args:
        iterations: K; K + 1 network calls at most, K = 0 is plain reversal of the sampler (DDIM inversion).
        averaging_weights: None takes the last estimate alone.
        tolerance: an image stops as soon as ‖z^k − z^{k−1}‖ ≤ tolerance · ‖z^k‖; None never stops early.
    """

    iterations: int
    averaging_weights: AveragingWeights | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise InputError(f"model.renoise_iterations must be 0 or more, got {self.iterations}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise InputError(f"model.tolerance must be positive or null, got {self.tolerance}")
        if self.averaging_weights is not None:
            self.averaging_weights.validate(self.iterations)

    def weights(self, timestep: float) -> list[float]:
        """w_1 … w_k up to the last that is not 0: the network is never called for an estimate that nothing uses."""
        if self.averaging_weights is None:
            return [0.0] * self.iterations + [1.0]
        weights = list(self.averaging_weights.at(timestep))
        while weights[-1] == 0:
            weights.pop()
        total = sum(weights)
        return [weight / total for weight in weights]

    def solve(
        self,
        step: Step,
        previous: torch.Tensor,
        predict: Predict,
        noise: torch.Tensor | None = None,
        regularize: Regularize | None = None,
    ) -> torch.Tensor:
        """z_t with z_{t-1} = φ z_t + ψ ε_θ(z_t, t) + ρ ε, each image for itself.

        Args:
            step: the sampler's step to invert.
            previous: z_{t-1}, [B, C, h, w].
            predict: the network; called with the images that are still moving, and no others.
            noise: ε_t, [B, C, h, w]; None where ρ = 0.
            regularize: applied to every prediction δᵏ whose estimate has a say (w_k > 0), and to no other.

        Returns:
            z_t = Σ_k w_k z^k, [B, C, h, w]. Where an image stops at k, the estimates after it count as z^k.
        """
        weights = self.weights(step.timestep)
        rows = torch.arange(len(previous), device=previous.device)
        average, estimate = torch.zeros_like(previous), previous

        def renoise(prediction: torch.Tensor, at: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
            return step.renoise_from(previous[of], at, prediction, None if noise is None else noise[of])

        for k, weight in enumerate(weights):
            prediction = predict(estimate, rows)
            if regularize is not None and weight > 0:
                prediction = regularize(prediction, estimate, rows, k)
            renoised = renoise(prediction, estimate, rows)
            moving = self._moving(renoised, estimate)
            if moving is None:
                average += weight * renoised
                estimate = renoised
                continue
            settled = ~moving
            last = renoised[settled]
            if regularize is not None and weight == 0 and settled.any():  # it has a say after all
                regular = regularize(prediction[settled], estimate[settled], rows[settled], k)
                last = renoise(regular, estimate[settled], rows[settled])
            average[rows[settled]] += sum(weights[k:]) * last
            average[rows[moving]] += weight * renoised[moving]
            rows, estimate = rows[moving], renoised[moving]
            if len(rows) == 0:
                break
        return average

    def _moving(self, renoised: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor | None:
        """Which images go on, [n]; None where all do by definition (no tolerance)."""
        if self.tolerance is None:
            return None
        change = (renoised - estimate).flatten(1).norm(dim=1)
        moving: torch.Tensor = change > self.tolerance * renoised.flatten(1).norm(dim=1)
        return moving
