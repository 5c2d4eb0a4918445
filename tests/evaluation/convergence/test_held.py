"""What renoising holds fixed with flow matching, against closed forms of Gaussian data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from renoise import Schedule, Step, StepEquation
from renoise.evaluation.convergence import figures
from renoise.evaluation.convergence.held import gaussian_contractions, held_table
from renoise.evaluation.convergence.increments import ITERATIONS, RecordingSolver
from renoise.evaluation.convergence.tables import norms_table, step_table

VARIANCE = 4.0
IMAGES = torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SCHEDULE = Schedule.from_scheduler(FlowMatchEulerDiscreteScheduler(), 4)


def gaussian_equation(step: Step) -> StepEquation:
    """The equation of a step for data N(0, VARIANCE · I), whose v is known."""
    slope = (step.sigma - step.signal * VARIANCE) / (step.signal**2 * VARIANCE + step.sigma**2)
    return StepEquation(step, IMAGES, lambda latents, index: slope * latents)


def measured_rows() -> list[dict[str, Any]]:
    solver = RecordingSolver(SCHEDULE)
    for step in SCHEDULE:
        solver.solve(gaussian_equation(step), [0.0] * ITERATIONS + [1.0])
    return [{"variance": VARIANCE, "steps": [record.row(image) for record in solver.records]} for image in range(2)]


def test_contractions_of_gaussian_data_are_the_closed_forms_with_v_and_with_noise_held() -> None:
    table = held_table(measured_rows())
    assert list(table["position"]) == [1, 2, 3]  # at σ = 1, v does not determine ε
    slow = table[:2]  # the last step takes one iteration
    assert slow["noise"].tolist() == pytest.approx(slow["gaussian_noise"].tolist(), rel=1e-6)
    assert slow["v"].tolist() == pytest.approx(slow["gaussian_v"].tolist(), rel=1e-6)
    assert table["v"][0] < table["noise"][0]


def test_closed_forms_differ_where_the_data_has_another_variance() -> None:
    step = SCHEDULE.steps[1]
    one, other = (gaussian_contractions(step.sigma, step.psi, variance) for variance in (VARIANCE, 2 * VARIANCE))
    assert one != pytest.approx(other, rel=0.1)


def test_models_without_flow_matching_have_no_such_table() -> None:
    step = Schedule.from_scheduler(DDIMScheduler(clip_sample=False), 2).steps[0]
    solver = RecordingSolver(Schedule((step,), 1.0))
    solver.solve(StepEquation(step, IMAGES, lambda latents, index: 0.1 * latents), [0.0] * ITERATIONS + [1.0])
    assert held_table([{"variance": VARIANCE, "steps": [solver.records[0].row(0)]}]).empty


def test_images_of_two_sizes_have_the_steps_of_their_own() -> None:
    rows = measured_rows()
    for record in rows[0]["steps"]:
        record["t"] += 1.0
    assert len(step_table(rows, norms_table(rows))) == 2 * len(SCHEDULE)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    figures.plot_held(tmp_path / "held", held_table(measured_rows()))
    assert (tmp_path / "held.png").stat().st_size > 1000
