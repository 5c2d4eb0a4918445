"""Curves of renoising against the solver's own record and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import renoise
from renoise import ReNoise, Renoising, Schedule, Solution, Step, StepEquation
from renoise.core.fixed_point import Stop
from renoise.evaluation.convergence.increments import (
    ITERATIONS,
    RecordingSolver,
    StepRecord,
    measured_steps,
)
from renoise.evaluation.convergence.rates import averaging_factor, contraction, mean_cosine


def linear(ratio: float) -> StepEquation:
    """G(z) = ratio · z + constant for two images."""
    step = Step(timestep=500, phi=1.0, psi=-ratio, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
    previous = torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return StepEquation(step, previous, lambda latents, index: latents)


def record(ratio: float) -> StepRecord:
    equation = linear(ratio)
    solver = RecordingSolver(Schedule((equation.step,), 1.0))
    solver.solve(equation, [0.0] * ITERATIONS + [1.0])
    return solver.records[0]


@pytest.mark.parametrize("ratio", [0.6, -0.6, 0.1])
def test_increments_distances_and_averages_of_a_linear_map_are_those_of_geometric_series(ratio: float) -> None:
    found = record(ratio)
    first = linear(ratio).previous.flatten(1).norm(dim=1)  # z⁰ = b, so z¹ − z⁰ = ratio · b
    expected = torch.stack([abs(ratio) ** (k + 1) * first for k in range(ITERATIONS + 1)])
    assert torch.allclose(found.increments, expected, rtol=1e-9)
    errors = [ratio**k * ratio / (1 - ratio) for k in range(1, ITERATIONS + 2)]
    assert torch.allclose(found.distances, torch.stack([abs(error) * first for error in errors]), atol=1e-4)
    means = [abs(sum(errors[:count])) / count for count in range(1, ITERATIONS + 2)]
    assert torch.allclose(found.average_distances, torch.stack([mean * first for mean in means]), atol=1e-4)
    assert torch.allclose(found.cosines, torch.full_like(found.cosines, math.copysign(1, ratio)), atol=1e-4)


@pytest.mark.parametrize("ratio", [0.6, -0.6, -0.2])
def test_the_rates_of_a_linear_map_are_its_ratio_and_averaging_helps_where_it_is_below_minus_a_third(
    ratio: float,
) -> None:
    row = record(ratio).row(0)
    assert contraction(row["residuals"]) == pytest.approx(abs(ratio))
    assert mean_cosine(row) == pytest.approx(math.copysign(1, ratio))
    assert averaging_factor(row) == pytest.approx(abs(1 + 1 / ratio) / 2, rel=0.02)
    assert (averaging_factor(row) < 1) == (ratio < -1 / 3)


class Keeps(Renoising):
    """Renoises plainly with so many calls, and keeps the solutions."""

    def __init__(self) -> None:
        self.solutions: list[Solution] = []

    def solve(
        self, equation: StepEquation, weights: list[float], tolerance: float | None = None, stop: Stop | None = None
    ) -> Solution:
        self.solutions.append(super().solve(equation, weights, tolerance, stop))
        return self.solutions[-1]


def test_residuals_are_the_solver_s_own_for_every_number_of_iterations() -> None:
    pipeline = renoise.load("data/models/tiny-sdxl-turbo", preset="sdxl_turbo")
    model, names = pipeline.model, ["a", "b"]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        latents = model.encode_images(torch.rand(2, 3, 32, 32, generator=generator))
        conditioning = model.encode_prompts(["", "a cat"])
        recorder = RecordingSolver(pipeline.schedule)
        pipeline.invert_latents(latents, conditioning, names, inversion=ReNoise(ITERATIONS, solver=recorder))
        for k in (0, 3, ITERATIONS):
            solver = Keeps()
            pipeline.invert_latents(latents, conditioning, names, inversion=ReNoise(k, solver=solver))
            cleanest = solver.solutions[0]  # the other steps start elsewhere at another K
            assert recorder.records[0].residuals[k].tolist() == cleanest.residual.tolist()
    # At the same K, all steps are the same.
    assert [each.residuals[-1].tolist() for each in recorder.records] == [
        each.residual.tolist() for each in solver.solutions
    ]


def test_steps_between_the_measured_ones_take_few_calls_and_are_not_recorded() -> None:
    pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=10)
    model = pipeline.model
    with torch.no_grad():
        latents, conditioning = model.encode_images(torch.rand(1, 3, 32, 32)), model.encode_prompts([""])
        solver = RecordingSolver(pipeline.schedule)
        pipeline.invert_latents(latents, conditioning, ["a"], inversion=ReNoise(ITERATIONS, solver=solver))
    assert sorted(each.position for each in solver.records) == measured_steps(10) == [0, 1, 3, 4, 5, 6, 8, 9]
    assert solver.problem is None
    assert all(each.norms == {} for each in solver.records)


def test_rates_leave_out_increments_that_rounding_made() -> None:
    assert contraction([1.0, 0.1, 0.01, 1e-6, 3e-6]) == pytest.approx(0.1)
    assert math.isnan(contraction([1.0, 1e-6, 1e-6]))
