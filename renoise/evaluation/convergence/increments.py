"""What renoising does at single steps of the sampler: its increments, their directions, and where they lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F

from renoise.core.anderson import Anderson
from renoise.core.fixed_point import Solution, StepEquation, Stop
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.evaluation.convergence.held import residuals_with_noise_held
from renoise.evaluation.convergence.jacobian import Jacobian, Mapping, Norms, spectral_norms
from renoise.outputs.image_result import finite

ITERATIONS = 9
"""K at the measured steps: z¹ … z¹⁰, as SDXL Turbo's preset has them."""
MAX_STEPS = 8
"""Most steps of a sampler that are measured. The others are only solved, to get from one to the next."""
CALLS_BETWEEN = 4
"""Network calls of a step that is not measured."""
NORMS_AT = (0, 1, 9)
"""k of the estimates zᵏ at which the norm of the Jacobian is measured."""
REFERENCE_CALLS = 100
"""Most further calls for z*, the fixed point, by Anderson acceleration from the last estimate on."""
REFERENCE_TOLERANCE = 2e-6
CURVES = ("increments", "residuals", "cosines", "distances", "average_distances", "pair_distances")


@dataclass(frozen=True)
class StepRecord:
    """What was measured at one step for B images.

    Args:
        position: Of the step in the schedule.
        step: The step.
        increments: ‖zᵏ⁺¹ − zᵏ‖ for k = 0 … K, [K + 1, B].
        residuals: The same as `StepEquation.residual` has it, [K + 1, B].
        cosines: Of the angle between zᵏ⁺¹ − zᵏ and zᵏ − zᵏ⁻¹ for k = 1 … K, [K, B].
        distances: ‖zᵏ − z*‖ for k = 1 … K + 1, [K + 1, B].
        average_distances: ‖(z¹ + … + zᵏ) / k − z*‖ for the same k, [K + 1, B].
        pair_distances: ‖(zᵏ + zᵏ⁺¹) / 2 − z*‖ for k = 1 … K, [K, B].
        reference_residual: Of z*, [B].
        norms: ‖∂G/∂z‖ at zᵏ by k. Empty where they were not measured.
        noise_residuals: The residuals where ε is held fixed, [K + 1, B]. Only flow matching below σ = 1 has them.
    """

    position: int
    step: Step
    increments: torch.Tensor
    residuals: torch.Tensor
    cosines: torch.Tensor
    distances: torch.Tensor
    average_distances: torch.Tensor
    pair_distances: torch.Tensor
    reference_residual: torch.Tensor
    norms: dict[int, Norms] = field(default_factory=dict)
    noise_residuals: torch.Tensor | None = None

    def row(self, image: int) -> dict[str, Any]:
        """Returns the measurements of one image in JSON types. What is not finite is null."""
        return {
            "position": self.position,
            "t": float(self.step.timestep),
            "sigma": self.step.sigma,
            "psi": self.step.psi,
            "expected": expected_norm(self.step),
            **{name: [finite(value) for value in getattr(self, name)[:, image].tolist()] for name in CURVES},
            "reference_residual": finite(self.reference_residual[image].item()),
            "noise_residuals": []
            if self.noise_residuals is None
            else [finite(value) for value in self.noise_residuals[:, image].tolist()],
            "norms": [
                {
                    "k": k,
                    "norm": finite(norms.values[image].item()),
                    "residual": finite(norms.residual[image].item()),
                    "products": int(norms.products[image]),
                }
                for k, norms in self.norms.items()
            ],
        }


def measured_steps(count: int) -> list[int]:
    """Returns the positions of the measured steps among so many: all, or `MAX_STEPS` with the first and the last.

    Example:
        >>> from renoise.evaluation.convergence.increments import measured_steps
        >>> measured_steps(50)
        [0, 7, 14, 21, 28, 35, 42, 49]
    """
    if count <= MAX_STEPS:
        return list(range(count))
    return [round(index * (count - 1) / (MAX_STEPS - 1)) for index in range(MAX_STEPS)]


class RecordingSolver(Renoising):
    """Renoises plainly, and records what the measured steps do.

    Args:
        schedule: The sampler's steps.
        start: Random vectors where power iterations start, [B, C, h, w]. Each but the first starts half-way between
            its vector and the one that was found before. None measures no norms.
    """

    def __init__(self, schedule: Schedule, start: torch.Tensor | None = None) -> None:
        self.positions = {step: position for position, step in enumerate(schedule)}
        self.measured = set(measured_steps(len(schedule)))
        self.start = self.drawn = start
        self.records: list[StepRecord] = []
        self.problem: str | None = None
        """Why norms are missing. None where they are not."""

    def solve(
        self,
        equation: StepEquation,
        weights: Sequence[float],
        tolerance: float | None = None,
        stop: Stop | None = None,
    ) -> Solution:
        """Solves the equation of one step; see `Solver.solve`."""
        position = self.positions[equation.step]
        if position not in self.measured:
            return super().solve(equation, weights[-CALLS_BETWEEN:], tolerance, stop)
        estimates: list[torch.Tensor] = []

        def predict(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            estimates.append(latents)
            return equation.predict(latents, index)

        solution = super().solve(replace(equation, predict=predict), weights, tolerance, stop)
        estimates.append(solution.latents)
        record = measure(equation, position, estimates)
        if equation.step.flow:
            record = replace(record, noise_residuals=residuals_with_noise_held(equation, len(weights)))
        self.records.append(replace(record, norms=self._norms(equation, estimates)))
        return solution

    def _norms(self, equation: StepEquation, estimates: Sequence[torch.Tensor]) -> dict[int, Norms]:
        """Returns the norms at some of the estimates. The first problem ends them for this batch."""
        norms: dict[int, Norms] = {}
        for k in NORMS_AT:
            if self.start is None or self.drawn is None:
                break
            try:
                norms[k] = spectral_norms(Jacobian(renoising_of(equation), estimates[k]), self.start)
            except RuntimeError as error:  # a part of the network without derivatives, or too little memory
                self.problem = f"{type(error).__name__}: {' '.join(str(error).split('.')[0].split())}"
                self.start = None
                return {}
            self.start = norms[k].vectors + self.drawn / self.drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return norms


def renoising_of(equation: StepEquation) -> Mapping:
    """Returns G of a step's equation.

    Its Jacobian is −(ψ / φ) · ∂ε/∂z, with φ and ψ of the step written in terms of ε, also where the network predicts
    v or z_0, or ∂v/∂z with flow matching (see `Step.held`). z is as the sampler has it, before it is scaled for the
    network.
    """
    return lambda latents, index: equation.renoise(equation.predict(latents, index), latents, index)


def measure(equation: StepEquation, position: int, estimates: Sequence[torch.Tensor]) -> StepRecord:
    """Returns the record of one step without norms.

    Args:
        equation: Of B images.
        position: Of the step in the schedule.
        estimates: z⁰ … zᴷ⁺¹, each [B, C, h, w].
    """
    everyone = torch.arange(len(estimates[0]), device=estimates[0].device)
    pairs = list(pairwise(estimates))
    moves = [after - before for before, after in pairs]
    reference = fixed_point(equation, estimates[-1])
    averages = torch.stack(list(estimates[1:])).cumsum(0)
    return StepRecord(
        position,
        equation.step,
        increments=torch.stack([_norm(move) for move in moves]),
        residuals=torch.stack([equation.residual(before, after, everyone) for before, after in pairs]),
        cosines=torch.stack([_cosine(*pair) for pair in pairwise(moves)]),
        distances=torch.stack([_norm(estimate - reference.latents) for estimate in estimates[1:]]),
        average_distances=torch.stack(
            [_norm(total / count - reference.latents) for count, total in enumerate(averages, start=1)]
        ),
        pair_distances=torch.stack([_norm((before + after) / 2 - reference.latents) for before, after in pairs[1:]]),
        reference_residual=reference.residual,
    )


def fixed_point(equation: StepEquation, estimate: torch.Tensor) -> Solution:
    """Returns z* as exactly as the precision allows: the fixed point that Anderson acceleration finds from an estimate.

    Args:
        equation: Of B images.
        estimate: [B, C, h, w].
    """
    weights = [0.0] * (REFERENCE_CALLS - 1) + [1.0]
    return Anderson().solve(replace(equation, warm_start=estimate), weights, REFERENCE_TOLERANCE)


def expected_norm(step: Step) -> float:
    """Returns ‖∂G/∂z‖ for data that is one point: |ψ| / (φ · sigma), because ∂ε/∂z = ∂v/∂z = 1 / sigma.

    Natural images are not one point, but on most directions of their space the posterior is nearly as narrow.
    """
    return abs(step.psi_of_held / step.phi_of_held) / step.sigma if step.sigma else 0.0


def _norm(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the norm of each image, [B]."""
    norm: torch.Tensor = tensor.flatten(1).norm(dim=1)
    return norm


def _cosine(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns the cosine of the angle for each image, [B]. 0 where one of the two is 0."""
    return F.cosine_similarity(first.flatten(1), second.flatten(1), eps=torch.finfo(first.dtype).tiny)
