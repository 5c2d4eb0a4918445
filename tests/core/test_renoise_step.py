from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from renoise.core.fixed_point import Solution, Solver, StepEquation, Stop
from renoise.core.renoise import AveragingWeights, ReNoiseStep, Renoising
from renoise.core.step import Step
from renoise.presets import preset_names, read_preset

TABLE_1 = {
    # K, weights of the estimates below and above t = 250
    "sd14": (1, [1 / 2] * 2, [0.0, 1.0]),
    "sdxl": (1, [1 / 2] * 2, [0.0, 1.0]),
    "sdxl_turbo": (9, [1 / 4] * 4, [0.0] * 7 + [1 / 3] * 3),
    "lcm_lora": (7, [1 / 4] * 4, [0.0] * 5 + [1 / 3] * 3),
}
"""The paper's Table 1."""
TURBO = AveragingWeights(below=[0.25] * 4, above=[1 / 3] * 3, max_iterations_below=3)


def equation(timestep: float = 500) -> tuple[StepEquation, list[list[int]]]:
    """Returns an equation of 3 images, and the list to which its network adds the index of each call."""
    calls: list[list[int]] = []

    def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        calls.append(index.tolist())
        return torch.sin(latents)

    step = Step(timestep, phi=1.2, psi=-0.3, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
    previous = torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return StepEquation(step, previous, network), calls


def preset_step(name: str, iterations: int | None = None) -> ReNoiseStep:
    """Returns the step of a preset, with another K where one is given."""
    init_args = read_preset(name)["model"]["inversion"]["init_args"]
    weights = AveragingWeights(**init_args["averaging_weights"])
    return ReNoiseStep(init_args["iterations"] if iterations is None else iterations, weights)


def test_every_preset_is_a_column_of_table_1_or_one_of_our_own() -> None:
    own = {"sd35", "flux_dev", "flux_schnell", "flux2_klein", "z_image_turbo"}
    assert sorted(name for name in preset_names() if not name.endswith("_fast") and name not in own) == sorted(TABLE_1)


@pytest.mark.parametrize("name", TABLE_1)
def test_presets_have_the_weights_of_table_1(name: str) -> None:
    iterations, below, above = TABLE_1[name]
    step = preset_step(name)
    assert step.iterations == iterations
    for timestep in (1, 249):
        assert step.weights(timestep) == pytest.approx(below)
    for timestep in (250, 999):
        assert step.weights(timestep) == pytest.approx(above)


@pytest.mark.parametrize("name", TABLE_1)
@pytest.mark.parametrize("timestep", [1.0, 249.0, 250.0, 999.0])
@given(iterations=st.integers(0, 30))
def test_iterations_alone_can_be_changed_in_every_preset(name: str, timestep: float, iterations: int) -> None:
    weights = preset_step(name, iterations).weights(timestep)
    _, below, above = TABLE_1[name]
    table_1 = below if timestep < 250 else above
    last = [weight for weight in table_1 if weight > 0][-(iterations + 1) :]
    assert [weight for weight in weights if weight > 0] == pytest.approx([weight / sum(last) for weight in last])
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    few_step = name in ("sdxl_turbo", "lcm_lora")
    assert len(weights) == 1 + (min(iterations, 3) if few_step and timestep < 250 else iterations)


parts = st.lists(st.integers(0, 3), min_size=1, max_size=7).filter(lambda parts: parts[-1] > 0)


@given(parts=parts, iterations=st.integers(0, 9), limit=st.one_of(st.none(), st.integers(0, 9)))
def test_the_lists_are_the_weights_of_the_last_estimates(parts: list[int], iterations: int, limit: int | None) -> None:
    given_weights = [part / sum(parts) for part in parts]
    averaging = AveragingWeights(given_weights, [1.0], boundary=100, max_iterations_below=limit)
    weights = averaging.at(99, iterations)
    assert len(weights) == 1 + (iterations if limit is None else min(iterations, limit))
    kept = min(len(parts), len(weights))
    scale = sum(given_weights[-kept:])
    assert weights[-kept:] == pytest.approx([weight / scale for weight in given_weights[-kept:]])
    assert not any(weights[:-kept])
    assert averaging.at(100, iterations) == [0.0] * iterations + [1.0]


def test_rounded_weights_are_scaled_to_sum_to_1() -> None:
    assert sum(AveragingWeights([1.0], [0.33, 0.33, 0.33]).at(500, 9)) == pytest.approx(1, abs=1e-12)


def test_without_averaging_weights_the_last_estimate_is_the_result() -> None:
    assert ReNoiseStep(3).weights(10) == ReNoiseStep(3).weights(900) == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("timestep", "calls"), [(1, 4), (249, 4), (250, 10), (999, 10)])
def test_a_step_makes_one_network_call_per_weight(timestep: float, calls: int) -> None:
    one, made = equation(timestep)
    solution, noise = ReNoiseStep(9, TURBO).invert(one)
    assert made == [[0, 1, 2]] * calls
    assert solution.iterations.tolist() == [calls] * 3
    assert noise is None


def test_a_step_is_solved_with_its_weights_and_tolerance() -> None:
    one, _ = equation()
    solution, _ = ReNoiseStep(9, TURBO, tolerance=1e-2).invert(one)
    expected = Renoising().solve(one, TURBO.at(500, 9), tolerance=1e-2)
    assert torch.equal(solution.latents, expected.latents)
    assert torch.equal(solution.iterations, expected.iterations)
    assert solution.converged is not None
    assert solution.converged.all()


def test_a_step_can_have_another_solver() -> None:
    class Unchanged(Solver):
        """Returns z_{t-1} and records what it is called with."""

        def solve(
            self,
            equation: StepEquation,
            weights: Sequence[float],
            tolerance: float | None = None,
            stop: Stop | None = None,
        ) -> Solution:
            self.arguments = list(weights), tolerance, stop
            count = torch.ones(len(equation.previous))
            return Solution(equation.previous, count.long(), count, None)

    one, calls = equation()
    solver = Unchanged()
    solution, _ = ReNoiseStep(2, tolerance=0.5, solver=solver).invert(one)
    assert solver.arguments == ([0.0, 0.0, 1.0], 0.5, None)
    assert torch.equal(solution.latents, one.previous)
    assert not calls


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: ReNoiseStep(-1), r"^iterations must be 0 or more, got -1$"),
    (lambda: ReNoiseStep(1, tolerance=0.0), r"^tolerance must be positive, or null, got 0\.0$"),
    (lambda: ReNoiseStep(1, tolerance=math.nan), r"^tolerance must be positive, or null, got nan$"),
    (lambda: AveragingWeights([0.5, 0.6], [1.0]), r"^below must be .* sum to 1, got \[0\.5, 0\.6\]$"),
    (lambda: AveragingWeights([1.0], [1.5, -0.5]), r"^above must be 0 or more each .* got \[1\.5, -0\.5\]$"),
    (lambda: AveragingWeights([], [1.0]), r"^below must .* got \[\]$"),
    (lambda: AveragingWeights([1.0], []), r"^above must .* got \[\]$"),
    (lambda: AveragingWeights([math.nan], [1.0]), r"^below must .* got \[nan\]$"),
    (lambda: AveragingWeights([1.0], [0.5, 0.5, 0.0]), r"^above must not end with 0, got \[0\.5, 0\.5, 0\.0\]"),
    (
        lambda: AveragingWeights([1.0], [1.0], max_iterations_below=-1),
        r"^max_iterations_below must be 0 or more, or null, got -1$",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_values_out_of_range_are_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
