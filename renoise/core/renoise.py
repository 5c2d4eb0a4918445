"""Algorithm 1 of ReNoise (arXiv 2403.14602) for one step of the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from renoise.core.fixed_point import Solution, Solver, StepEquation, Stop
from renoise.core.noise_correction import NoiseCorrection


class Renoising(Solver):
    """Renoises again and again from z_{t-1}, and averages the estimates (lines 4 to 9 of Algorithm 1).

    Example:
        >>> import torch
        >>> from renoise import Renoising, Step, StepEquation
        >>> step = Step(timestep=500, phi=1.0, psi=-0.5, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
        >>> equation = StepEquation(step, torch.ones(1, 4, 8, 8), predict=lambda latents, index: latents)
        >>> Renoising().solve(equation, weights=[0.0, 0.0, 1.0]).latents.mean()
        tensor(1.8750)
    """

    def solve(
        self,
        equation: StepEquation,
        weights: Sequence[float],
        tolerance: float | None = None,
        stop: Stop | None = None,
    ) -> Solution:
        """Solves the equation of one step; see `Solver.solve`.

        Where an image stops at zᵏ, the estimates after it count as zᵏ. The network is called for the images that have
        not stopped, and for no others.
        """
        average = torch.zeros_like(equation.previous)
        residual = average.new_zeros(len(average))
        iterations = torch.zeros(len(average), dtype=torch.int64, device=average.device)
        index = torch.arange(len(average), device=average.device)
        estimate = equation.start  # z⁰
        acceleration = self.acceleration(equation)
        for k, weight in enumerate(weights):
            prediction = equation.predict(estimate, index)  # δᵏ = ε_θ(zᵏ⁻¹, t, c)
            if equation.regularize is not None and weight > 0:
                prediction = equation.regularize(prediction, estimate, index, k)  # δᵏ ← δᵏ − ∇L_edit(δᵏ)
                if not any(weights[:k]):
                    acceleration.restart()  # G changes here
            renoised = equation.renoise(prediction, estimate, index)  # (z_{t-1} − ψ δᵏ − ρ ε) / φ
            residual[index] = equation.residual(estimate, renoised, index)
            iterations[index] += 1
            following = acceleration.next_estimate(estimate, renoised, residual[index], index)  # zᵏ
            is_last = k == len(weights) - 1
            if tolerance is None and stop is None:
                if is_last:
                    following, residual = acceleration.answer(following, residual, index)
                average += weight * following  # z_t = Σ_k w_k zᵏ
                estimate = following
                continue
            stops = _stops(residual[index], iterations[index], index, tolerance, stop) | is_last
            ends = index[stops]
            if equation.regularize is not None and weight == 0 and len(ends):  # this estimate is used after all
                regular = equation.regularize(prediction[stops], estimate[stops], ends, k)
                final = equation.renoise(regular, estimate[stops], ends)
            else:
                final, residual[ends] = acceleration.answer(following[stops], residual[ends], ends)
            average[ends] += sum(weights[k:]) * final
            average[index[~stops]] += weight * following[~stops]
            estimate, index = following[~stops], index[~stops]
            if len(index) == 0:
                break
        converged = None if tolerance is None else residual <= tolerance
        return Solution(average, iterations, residual, converged, acceleration.fell_back)

    def acceleration(self, equation: StepEquation) -> Acceleration:
        """Returns what finds the next estimate from the renoised ones. Plain renoising takes the last of them."""
        return Acceleration()


class Acceleration:
    """Finds the next estimate of one step. This one takes zᵏ = G(zᵏ⁻¹), which is plain renoising."""

    fell_back: torch.Tensor | None = None

    def next_estimate(
        self, estimate: torch.Tensor, renoised: torch.Tensor, residual: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        """Returns zᵏ from zᵏ⁻¹, G(zᵏ⁻¹) and its residual, [n], for the images at `index`, int64 [n]."""
        return renoised

    def answer(
        self, following: torch.Tensor, residual: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the estimates of a step's solution and their residuals, from the last zᵏ and its residual."""
        return following, residual

    def restart(self) -> None:
        """Forgets earlier estimates, because G has changed."""


def _stops(
    residual: torch.Tensor,
    iterations: torch.Tensor,
    index: torch.Tensor,
    tolerance: float | None,
    stop: Stop | None,
) -> torch.Tensor:
    """Returns whether each image stops, bool [n]."""
    stops = torch.zeros_like(index, dtype=torch.bool)
    if tolerance is not None:
        stops |= residual <= tolerance
    if stop is not None:
        stops |= stop(residual, iterations, index)
    return stops


@dataclass(frozen=True)
class AveragingWeights:
    """Weights of the last estimates, which follow the number of iterations (the supplement's Table 1).

    Args:
        below: Weights of the last estimates of steps with t < boundary, oldest first. They sum to 1.
        above: Likewise of all other steps.
        boundary: Timestep that separates them, before the shift of a flow-matching sampler (see `Step.level`).
        max_iterations_below: Most iterations K of steps with t < boundary. None has no limit.

    Raises:
        ValueError: A list is empty, negative, does not sum to 1 or ends with 0.

    Example:
        >>> from renoise import AveragingWeights
        >>> weights = AveragingWeights(below=[0.25] * 4, above=[0.5, 0.5], max_iterations_below=3)
        >>> weights.at(timestep=999, iterations=4)
        [0.0, 0.0, 0.0, 0.5, 0.5]
        >>> weights.at(timestep=249, iterations=4)
        [0.25, 0.25, 0.25, 0.25]
    """

    below: Sequence[float]
    above: Sequence[float]
    boundary: int = 250
    max_iterations_below: int | None = None

    def __post_init__(self) -> None:
        for name, weights in (("below", self.below), ("above", self.above)):
            if not abs(sum(weights) - 1) <= 0.011 or min(weights, default=-1) < 0:  # refuses NaN too
                raise ValueError(f"{name} must be 0 or more each and sum to 1, got {list(weights)}")
            if weights[-1] == 0:
                raise ValueError(f"{name} must not end with 0, got {list(weights)}: the last estimate would be unused")
        if self.max_iterations_below is not None and self.max_iterations_below < 0:
            raise ValueError(f"max_iterations_below must be 0 or more, or null, got {self.max_iterations_below}")

    def at(self, timestep: float, iterations: int) -> list[float]:
        """Returns w_1 … w_n of the step at `timestep`, n ≤ K + 1, which sum to 1.

        Args:
            timestep: t, before the sampler's shift (see `Step.level`).
            iterations: K. Where there are fewer estimates than weights, the oldest weights are left out.
        """
        is_below = timestep < self.boundary
        if is_below and self.max_iterations_below is not None:
            iterations = min(iterations, self.max_iterations_below)
        last = list(self.below if is_below else self.above)[-(iterations + 1) :]
        total = sum(last)
        return [0.0] * (iterations + 1 - len(last)) + [weight / total for weight in last]


@dataclass(frozen=True)
class ReNoiseStep:
    """Inverts one step of the sampler by Algorithm 1.

    Args:
        iterations: K. A step takes at most K + 1 network calls. K = 0 is plain reversal of the sampler.
        averaging_weights: Weights of the estimates. None takes the last one alone.
        tolerance: An image stops as soon as its residual is at most this. None never stops early.
        solver: Of the step's equation.
        noise_correction: Of the noise of a stochastic step. None leaves the noise as it was drawn.
        stochastic_iterations: K of the steps that draw noise. None is `iterations`.

    Raises:
        ValueError: A number of iterations is negative, or `tolerance` is not positive.
    """

    iterations: int = 1
    averaging_weights: AveragingWeights | None = None
    tolerance: float | None = None
    solver: Solver = field(default_factory=Renoising)
    noise_correction: NoiseCorrection | None = None
    stochastic_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"iterations must be 0 or more, got {self.iterations}")
        if self.stochastic_iterations is not None and self.stochastic_iterations < 0:
            raise ValueError(f"stochastic_iterations must be 0 or more, or null, got {self.stochastic_iterations}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive, or null, got {self.tolerance}")

    @property
    def max_estimates(self) -> int:
        """Most estimates of a step, K + 1."""
        return 1 + max(self.iterations, self.stochastic_iterations or 0)

    def weights(self, timestep: float, draws_noise: bool = False) -> list[float]:
        """Returns w_1 … w_n of the estimates at a step, one for each network call."""
        iterations = self.iterations
        if draws_noise and self.stochastic_iterations is not None:
            iterations = self.stochastic_iterations
        if self.averaging_weights is None:
            return [0.0] * iterations + [1.0]
        return self.averaging_weights.at(timestep, iterations)

    def invert(self, equation: StepEquation, stop: Stop | None = None) -> tuple[Solution, torch.Tensor | None]:
        """Finds z_t, and the noise under which the sampler's step leads from it back to z_{t-1}.

        Args:
            equation: Of B images.
            stop: See `Solver.solve`.

        Returns:
            The solution, and the corrected noise ε_t, [B, C, h, w]. None where the step has no noise.
        """
        weights = self.weights(equation.step.level, equation.step.rho != 0)
        solution = self.solver.solve(equation, weights, self.tolerance, stop)
        if self.noise_correction is None or equation.noise is None or equation.step.rho == 0:
            return solution, equation.noise
        everyone = torch.arange(len(solution.latents), device=solution.latents.device)
        prediction = equation.predict(solution.latents, everyone)
        corrected = self.noise_correction.correct(
            equation.step, solution.latents, equation.previous, equation.noise, prediction
        )
        return solution, corrected
