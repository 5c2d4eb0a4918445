from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.fixed_point import Predict, Regularize, Solution, StepEquation
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights, FixedPointIteration, ReNoiseStep
from renoise.core.step import Step

TABLE_1_TURBO = AveragingWeights(below=[0.25] * 4, above=[1 / 3] * 3, max_iterations_below=3)


def solution(
    one: Step,
    previous: torch.Tensor,
    predict: Predict,
    weights: Sequence[float],
    tolerance: float | None = None,
    noise: torch.Tensor | None = None,
    regularize: Regularize | None = None,
) -> Solution:
    return FixedPointIteration().solve(StepEquation(one, previous, predict, noise, regularize), weights, tolerance)


def solve(
    iterations: int, one: Step, previous: torch.Tensor, predict: Predict, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """The last estimate of K renoising iterations."""
    return solution(one, previous, predict, [0.0] * iterations + [1.0], noise=noise).latents


def step(phi: float = 1.2, psi: float = -0.3, rho: float = 0.0, timestep: float = 500) -> Step:
    return Step(timestep, phi, psi, rho, input_scale=1.0, signal=0.8, sigma=0.6)


def latents(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Smooth and nonlinear, with a Jacobian norm of at most 1."""
    return torch.sin(latents) + 0.1 * torch.cos(latents).roll(1, dims=-1) * 0.5


class Counted:
    """A network that remembers which images each call was for."""

    def __init__(self, network: Predict) -> None:
        self.network = network
        self.calls: list[list[int]] = []

    def __call__(self, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        self.calls.append(rows.tolist())
        return self.network(latents, rows)


def test_no_renoising_is_the_plain_reversal_of_the_sampler() -> None:
    previous, one = latents(), step()
    solved = solve(0, one, previous, network)
    expected = (previous - one.psi * network(previous, torch.arange(3))) / one.phi
    torch.testing.assert_close(solved, expected)


def test_the_shifted_gaussian_is_solved_exactly_by_one_renoising_iteration() -> None:
    """Supplementary, 1.1: dz/dt = −a e^{−t}; the Euler step back from the once renoised point is exact."""
    shift, t, delta = 3.0, 0.4, 0.25
    noisier = t + delta
    one = Step(
        timestep=noisier, phi=1.0, psi=delta, rho=0.0, input_scale=1.0, signal=1, sigma=0
    )  # z_t = z + a e^{−(t+Δ)} Δ

    def drift_at(time: float) -> torch.Tensor:
        return torch.tensor(shift * math.exp(-time), dtype=torch.float64)

    previous = latents()

    def drift(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Points still at z_t are at time t; renoised ones at t + Δt."""
        return drift_at(t if torch.equal(points, previous) else noisier).expand_as(points)

    once = solve(1, one, previous, drift)
    back = one.denoise(once, drift_at(noisier).expand_as(once), None)
    assert (back - previous).abs().max() <= 1e-6
    assert (once - (previous - shift * math.exp(-noisier) * delta)).abs().max() <= 1e-6
    euler = solve(0, one, previous, drift)
    assert (one.denoise(euler, drift_at(noisier).expand_as(euler), None) - previous).abs().max() > 0.05


def test_the_residual_falls_exponentially_to_the_fixed_point() -> None:
    previous, one = latents(), step()
    residuals = []
    for iterations in (0, 4, 8, 40):
        solved = solve(iterations, one, previous, network)
        back = one.denoise(solved, network(solved, torch.arange(3)), None)
        residuals.append(float((back - previous).abs().max()))
    assert residuals[1] < residuals[0] / 50
    assert residuals[2] < residuals[1] / 50
    assert residuals[3] < 1e-14


def test_the_result_is_the_weighted_mean_of_the_estimates() -> None:
    previous, one = latents(), step()
    estimates = [solve(k, one, previous, network) for k in range(3)]
    solved = solution(one, previous, network, [0.2, 0.3, 0.5]).latents
    expected = 0.2 * estimates[0] + 0.3 * estimates[1] + 0.5 * estimates[2]
    torch.testing.assert_close(solved, expected)


@pytest.mark.parametrize(("timestep", "calls"), [(1, 4), (249, 4), (250, 10), (999, 10)])
def test_the_network_is_not_called_beyond_the_last_weight(timestep: float, calls: int) -> None:
    counted = Counted(network)
    ReNoiseStep(9, TABLE_1_TURBO).invert(StepEquation(step(timestep=timestep), latents(), counted))
    assert len(counted.calls) == calls


def test_averages_converge_to_the_same_fixed_point() -> None:
    previous, one = latents(), step()
    exact = solve(60, one, previous, network)
    averaged = solution(one, previous, network, [0.0] * 51 + [0.1] * 10).latents
    torch.testing.assert_close(averaged, exact, rtol=0, atol=1e-12)


def test_each_image_stops_by_itself_and_is_not_computed_any_more() -> None:
    still = torch.tensor([True, False, True])

    def partly_constant(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.where(still[rows, None, None, None], torch.ones_like(points), network(points, rows))

    counted = Counted(partly_constant)
    solution(step(), latents(), counted, [0.0] * 5 + [1.0], tolerance=1e-3)
    # The second prediction of a constant network equals the first, so the image stops there.
    assert counted.calls[:2] == [[0, 1, 2], [0, 1, 2]]
    assert all(call == [1] for call in counted.calls[2:])


@given(batch=st.integers(1, 5), tolerance=st.sampled_from([None, 1e-1, 1e-3, 1e-6]), averaged=st.booleans())
def test_an_image_is_solved_the_same_alone_and_among_others(
    batch: int, tolerance: float | None, averaged: bool
) -> None:
    weights = [0.0] * 3 + [0.25] * 4 if averaged else [0.0] * 6 + [1.0]
    previous = latents(batch) * torch.arange(1, batch + 1, dtype=torch.float64)[:, None, None, None]
    together = solution(step(), previous, network, weights, tolerance).latents
    alone = torch.cat([solution(step(), one, network, weights, tolerance).latents for one in previous.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_stopping_early_counts_the_remaining_weights_for_the_last_estimate() -> None:
    def constant(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(points)

    one, previous = step(), latents()
    solved = solution(one, previous, constant, [0.0, 0.1, 0.2, 0.7], tolerance=1e-6).latents
    torch.testing.assert_close(solved, (previous - one.psi) / one.phi)


def test_the_noise_of_a_stochastic_step_is_taken_out() -> None:
    one, previous = step(rho=0.5), latents()
    noise = torch.randn_like(previous)
    solved = solve(40, one, previous, network, noise)
    torch.testing.assert_close(one.denoise(solved, network(solved, torch.arange(3)), noise), previous)


class Linear:
    """Random linear maps of small latents [B, 2, 2, 3], an image's own, which shrink what they map."""

    def __init__(self, batch: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.matrices = torch.randn(batch, 12, 12, dtype=torch.float64, generator=generator) / 12
        self.offsets = torch.randn(batch, 12, dtype=torch.float64, generator=generator)
        self.latents = torch.randn(batch, 2, 2, 3, dtype=torch.float64, generator=generator)
        self.noise = torch.randn(batch, 2, 2, 3, dtype=torch.float64, generator=generator)

    def predict(self, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        mapped = torch.einsum("nij,nj->ni", self.matrices[rows], latents.flatten(1)) + self.offsets[rows]
        return mapped.reshape(latents.shape)

    def regularize(self, prediction: torch.Tensor, latents: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
        """Depends on all arguments, so that none can be mixed up."""
        return 0.9 * prediction - 0.01 * latents + 0.1 * (rows[:, None, None, None] + 1) / (k + 1)


def algorithm_1(
    one: Step, weights: list[float], linear: Linear, row: int, regularize: Regularize | None, tolerance: float | None
) -> torch.Tensor:
    """Algorithm 1 of the paper for one image, line by line."""
    rows = torch.tensor([row])
    previous, noise = linear.latents[rows], linear.noise[rows]
    estimates, z = [], previous
    for k, weight in enumerate(weights):
        delta = linear.predict(z, rows)
        regular = delta if regularize is None else regularize(delta, z, rows, k)
        renoised = (previous - one.psi * (regular if weight > 0 else delta) - one.rho * noise) / one.phi
        residual = float((one.phi * (renoised - z)).norm()) / float(previous.norm())
        if tolerance is not None and residual <= tolerance:  # all later estimates count as this one, which is used then
            last = (previous - one.psi * regular - one.rho * noise) / one.phi
            return sum((w * z_k for w, z_k in zip(weights, estimates, strict=False)), sum(weights[k:]) * last)
        estimates.append(renoised)
        z = renoised
    return sum((w * z_k for w, z_k in zip(weights, estimates, strict=True)), torch.zeros_like(previous))


some_weights = st.lists(st.integers(0, 3), min_size=1, max_size=7).filter(any)


@given(
    parts=some_weights,
    batch=st.integers(1, 4),
    regularized=st.booleans(),
    tolerance=st.sampled_from([None, 0.3, 0.03, 1e-6]),
    rho=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 999),
)
@settings(deadline=None)
def test_the_result_is_that_of_the_papers_pseudo_code(
    parts: list[int], batch: int, regularized: bool, tolerance: float | None, rho: float, seed: int
) -> None:
    weights = [part / sum(parts) for part in parts]
    one, linear = step(rho=rho), Linear(batch, seed)
    regularize = linear.regularize if regularized else None
    noise = linear.noise
    solved = solution(one, linear.latents, linear.predict, weights, tolerance, noise, regularize).latents
    dense = torch.cat([algorithm_1(one, weights, linear, row, regularize, tolerance) for row in range(batch)])
    torch.testing.assert_close(solved, dense, rtol=0, atol=1e-12)


class Regularized:
    """A regularization that remembers which images each k was for, and adds a constant."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []

    def __call__(self, prediction: torch.Tensor, latents: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
        assert len(prediction) == len(latents) == len(rows)
        self.calls.append((k, rows.tolist()))
        return prediction + 0.1


@given(parts=some_weights)
def test_the_predictions_with_a_weight_are_regularized_and_no_others(parts: list[int]) -> None:
    weights = [part / sum(parts) for part in parts]
    regularize = Regularized()
    solution(step(), latents(), network, weights, regularize=regularize)
    assert regularize.calls == [(k, [0, 1, 2]) for k, weight in enumerate(weights) if weight > 0]


def test_without_weights_the_last_prediction_alone_is_regularized() -> None:
    regularize = Regularized()
    solution(step(), latents(), network, [0.0, 0.0, 0.0, 1.0], regularize=regularize)
    assert regularize.calls == [(3, [0, 1, 2])]


def test_a_prediction_is_regularized_at_the_latents_that_it_was_made_for() -> None:
    def regularize(prediction: torch.Tensor, points: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
        torch.testing.assert_close(prediction, network(points, rows), rtol=0, atol=0)
        return prediction + 0.1

    solution(step(), latents(), network, [0.2, 0.0, 0.3, 0.5], tolerance=1e-2, regularize=regularize)


def settling(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Constant for all images but image 1, so that they stop at the second call."""
    return torch.where((rows == 1)[:, None, None, None], network(points, rows), torch.ones_like(points))


def test_an_image_that_stops_at_an_estimate_without_weight_is_regularized_once() -> None:
    regularize, one, previous = Regularized(), step(), latents()
    solved = solution(one, previous, settling, [0.0] * 3 + [0.5] * 2, tolerance=1e-9, regularize=regularize).latents
    assert regularize.calls == [(1, [0, 2]), (3, [1]), (4, [1])]
    for row in (0, 2):
        torch.testing.assert_close(solved[row], (previous[row] - one.psi * 1.1) / one.phi)


def test_an_image_that_stops_at_an_estimate_with_weight_is_not_regularized_twice() -> None:
    regularize, one, previous = Regularized(), step(), latents()
    solved = solution(one, previous, settling, [0.25] * 4, tolerance=1e-9, regularize=regularize).latents
    rows_of = {k: [rows for _, rows in calls] for k, calls in groupby(regularize.calls, key=lambda call: call[0])}
    assert rows_of == {0: [[0, 1, 2]], 1: [[0, 1, 2]], 2: [[1]], 3: [[1]]}
    for row in (0, 2):
        torch.testing.assert_close(solved[row], (previous[row] - one.psi * 1.1) / one.phi)


# What a solution says


@pytest.mark.parametrize("from_latents", [0.0, 0.3], ids=["epsilon", "v"])
def test_the_residual_is_the_error_of_the_samplers_step_from_the_last_estimate_that_was_predicted(
    from_latents: float,
) -> None:
    one = Step(500, 1.2, -0.3, 0.4, 1.0, 0.8, 0.6, noise_from_latents=from_latents, noise_from_prediction=0.7)
    previous, noise = latents(), torch.randn_like(latents())
    for iterations in (0, 1, 4):
        found = solution(one, previous, network, [0.0] * iterations + [1.0], noise=noise)
        estimate = previous if iterations == 0 else solve(iterations - 1, one, previous, network, noise)
        defect = one.denoise(estimate, network(estimate, torch.arange(3)), noise) - previous
        expected = defect.flatten(1).norm(dim=1) / previous.flatten(1).norm(dim=1)
        torch.testing.assert_close(found.residual, expected)
        assert found.iterations.tolist() == [iterations + 1] * 3
        assert found.converged is None


def test_an_image_converges_once_its_residual_is_within_the_tolerance() -> None:
    found = solution(step(), latents(), settling, [0.0] * 30 + [1.0], tolerance=1e-3)
    assert found.converged is not None
    assert found.converged.tolist() == [True] * 3
    assert bool((found.residual <= 1e-3).all())
    assert found.iterations[[0, 2]].tolist() == [2, 2]
    assert 2 < int(found.iterations[1]) < 31
    early = solution(step(), latents(), settling, [0.0, 0.0, 1.0], tolerance=1e-3)
    assert early.converged is not None
    assert early.converged.tolist() == [True, False, True]


# Averaging


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 7, 9, 20])
def test_averaging_follows_the_number_of_iterations(iterations: int) -> None:
    weights = AveragingWeights(below=[0.25] * 4, above=[0.2, 0.3, 0.5])
    for timestep, last in ((249, [0.25] * 4), (250, [0.2, 0.3, 0.5])):
        found = weights.at(timestep, iterations)
        kept = last[-(iterations + 1) :]
        assert len(found) == iterations + 1
        assert sum(found) == pytest.approx(1)
        assert found[-len(kept) :] == pytest.approx([weight / sum(kept) for weight in kept])
        assert not any(found[: -len(kept)])


def test_below_the_boundary_the_iterations_have_a_limit_of_their_own() -> None:
    assert TABLE_1_TURBO.at(249, 9) == [0.25] * 4
    assert TABLE_1_TURBO.at(249, 2) == pytest.approx([1 / 3] * 3)
    assert TABLE_1_TURBO.at(250, 9) == pytest.approx([0.0] * 7 + [1 / 3] * 3)


# The whole step


def test_the_noise_is_corrected_by_one_call_at_the_solution() -> None:
    one, previous, noise = step(rho=0.5), latents(), torch.randn_like(latents())
    counted = Counted(network)
    inverted = ReNoiseStep(2, noise_correction=NoiseCorrection("override"))
    found, corrected = inverted.invert(StepEquation(one, previous, counted, noise))
    assert len(counted.calls) == 3 + 1
    back = one.denoise(found.latents, network(found.latents, torch.arange(3)), corrected)
    torch.testing.assert_close(back, previous)


def test_a_step_without_noise_has_nothing_to_correct() -> None:
    counted = Counted(network)
    inverted = ReNoiseStep(2, noise_correction=NoiseCorrection("override"))
    _, corrected = inverted.invert(StepEquation(step(), latents(), counted))
    assert corrected is None
    assert len(counted.calls) == 3


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: ReNoiseStep(-1), r"^iterations must be 0 or more, got -1"),
    (lambda: ReNoiseStep(1, tolerance=0.0), r"^tolerance must be positive, or null, got 0\.0"),
    (lambda: AveragingWeights([0.5, 0.6], [1.0]), r"^below .* sum to 1"),
    (lambda: AveragingWeights([1.0], [1.5, -0.5]), r"^above must be 0 or more each"),
    (lambda: AveragingWeights([], [1.0]), r"^below"),
    (lambda: AveragingWeights([1.0], [0.5, 0.5, 0.0]), r"^above must not end with 0"),
    (lambda: AveragingWeights([1.0], [1.0], max_iterations_below=-1), r"^max_iterations_below must be 0 or more"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_an_argument_out_of_range_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
