from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.fixed_point import Predict, Regularize, Solution, StepEquation
from renoise.core.renoise import Renoising
from renoise.core.step import Step


def step(phi: float = 1.2, psi: float = -0.3, rho: float = 0.0, timestep: float = 500) -> Step:
    return Step(timestep, phi, psi, rho, input_scale=1.0, signal=0.8, sigma=0.6)


def latents(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Smooth and nonlinear, with a Jacobian norm of at most 1."""
    return torch.sin(latents) + 0.1 * torch.cos(latents).roll(1, dims=-1) * 0.5


def solve(equation: StepEquation, weights: Sequence[float], tolerance: float | None = None) -> Solution:
    return Renoising().solve(equation, weights, tolerance)


def last_of(iterations: int) -> list[float]:
    """Returns the weights that take the last of K + 1 estimates alone."""
    return [0.0] * iterations + [1.0]


class Counted:
    """A network that records the index of each call."""

    def __init__(self, network: Predict) -> None:
        self.network = network
        self.calls: list[list[int]] = []

    def __call__(self, latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        self.calls.append(index.tolist())
        return self.network(latents, index)


def test_without_iterations_the_result_is_plain_reversal_of_the_sampler() -> None:
    previous, one = latents(), step()
    solution = solve(StepEquation(one, previous, network), last_of(0))
    expected = (previous - one.psi * network(previous, torch.arange(3))) / one.phi
    torch.testing.assert_close(solution.latents, expected)


def test_one_iteration_solves_the_shifted_gaussian_exactly() -> None:
    """Supplement, 1.1: dz/dt = −a e^{−t}; the Euler step back from the once renoised point is exact."""
    shift, t, delta = 3.0, 0.4, 0.25
    noisier = t + delta
    # z_t = z + a e^{−(t+Δ)} Δ
    one = Step(timestep=noisier, phi=1.0, psi=delta, rho=0.0, input_scale=1.0, signal=1, sigma=0)

    def drift_at(time: float) -> torch.Tensor:
        return torch.tensor(shift * math.exp(-time), dtype=torch.float64)

    previous = latents()

    def drift(points: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Points still at z_t are at time t; renoised ones are at t + Δt."""
        return drift_at(t if torch.equal(points, previous) else noisier).expand_as(points)

    equation = StepEquation(one, previous, drift)
    once = solve(equation, last_of(1)).latents
    back = one.denoise(once, drift_at(noisier).expand_as(once), None)
    assert (back - previous).abs().max() <= 1e-6
    assert (once - (previous - shift * math.exp(-noisier) * delta)).abs().max() <= 1e-6
    euler = solve(equation, last_of(0)).latents
    assert (one.denoise(euler, drift_at(noisier).expand_as(euler), None) - previous).abs().max() > 0.05


def test_the_error_of_the_step_falls_exponentially_with_the_iterations() -> None:
    previous, one = latents(), step()
    errors = []
    for iterations in (0, 4, 8, 40):
        solved = solve(StepEquation(one, previous, network), last_of(iterations)).latents
        back = one.denoise(solved, network(solved, torch.arange(3)), None)
        errors.append(float((back - previous).abs().max()))
    assert errors[1] < errors[0] / 50
    assert errors[2] < errors[1] / 50
    assert errors[3] < 1e-14


def test_the_result_is_the_weighted_mean_of_the_estimates() -> None:
    equation = StepEquation(step(), latents(), network)
    estimates = [solve(equation, last_of(k)).latents for k in range(3)]
    expected = 0.2 * estimates[0] + 0.3 * estimates[1] + 0.5 * estimates[2]
    torch.testing.assert_close(solve(equation, [0.2, 0.3, 0.5]).latents, expected)


def test_averages_converge_to_the_same_fixed_point() -> None:
    equation = StepEquation(step(), latents(), network)
    exact, averaged = solve(equation, last_of(60)), solve(equation, [0.0] * 51 + [0.1] * 10)
    torch.testing.assert_close(averaged.latents, exact.latents, rtol=0, atol=1e-12)


def constant_except_image_1(points: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Constant, and so converged at the second call, except for image 1."""
    return torch.where((index == 1)[:, None, None, None], network(points, index), torch.ones_like(points))


def test_each_image_stops_by_itself_and_takes_no_further_calls() -> None:
    counted = Counted(constant_except_image_1)
    solution = solve(StepEquation(step(), latents(), counted), last_of(5), tolerance=1e-3)
    assert counted.calls[:2] == [[0, 1, 2], [0, 1, 2]]
    assert all(call == [1] for call in counted.calls[2:])
    assert solution.iterations.tolist() == [2, len(counted.calls), 2]
    assert 2 < len(counted.calls) <= 6


@given(tolerance=st.sampled_from([1e-1, 1e-2, 1e-3, 1e-6]), iterations=st.integers(0, 12))
def test_an_image_stops_at_the_first_estimate_whose_step_error_is_within_the_tolerance(
    tolerance: float, iterations: int
) -> None:
    one, every = step(), torch.arange(3)
    previous = latents() * torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)[:, None, None, None]
    errors, estimate = [], previous
    for _ in range(iterations + 1):
        prediction = network(estimate, every)
        error = one.denoise(estimate, prediction, None) - previous
        errors.append(error.flatten(1).norm(dim=1) / previous.flatten(1).norm(dim=1))
        estimate = one.renoise(previous, prediction, None)
    solution = solve(StepEquation(one, previous, network), last_of(iterations), tolerance)
    assert solution.converged is not None
    for image in range(3):
        within = [k for k, error in enumerate(errors) if float(error[image]) <= tolerance]
        last = within[0] if within else iterations
        assert int(solution.iterations[image]) == last + 1
        assert bool(solution.converged[image]) == bool(within)
        torch.testing.assert_close(solution.residual[image], errors[last][image], rtol=1e-6, atol=1e-12)


def test_without_a_tolerance_every_image_takes_all_iterations() -> None:
    solution = solve(StepEquation(step(), latents(), constant_except_image_1), last_of(5))
    assert solution.iterations.tolist() == [6, 6, 6]
    assert solution.converged is None


@given(batch=st.integers(1, 5), tolerance=st.sampled_from([None, 1e-1, 1e-3, 1e-6]), averaged=st.booleans())
def test_an_image_is_solved_the_same_alone_and_in_a_batch(batch: int, tolerance: float | None, averaged: bool) -> None:
    weights = [0.0] * 3 + [0.25] * 4 if averaged else last_of(6)
    previous = latents(batch) * torch.arange(1, batch + 1, dtype=torch.float64)[:, None, None, None]
    together = solve(StepEquation(step(), previous, network), weights, tolerance)
    for image, one in enumerate(previous.split(1)):
        alone = solve(StepEquation(step(), one, network), weights, tolerance)
        torch.testing.assert_close(together.latents[[image]], alone.latents, rtol=0, atol=1e-12)
        torch.testing.assert_close(together.residual[[image]], alone.residual, rtol=0, atol=1e-12)
        assert together.iterations[image] == alone.iterations[0]


def test_an_image_that_stops_early_gives_its_last_estimate_the_remaining_weights() -> None:
    def constant(points: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(points)

    one, previous = step(), latents()
    solution = solve(StepEquation(one, previous, constant), [0.0, 0.1, 0.2, 0.7], tolerance=1e-6)
    assert solution.iterations.tolist() == [2, 2, 2]
    torch.testing.assert_close(solution.latents, (previous - one.psi) / one.phi)


def test_the_noise_of_a_stochastic_step_is_removed() -> None:
    one, previous = step(rho=0.5), latents()
    noise = torch.randn_like(previous)
    solved = solve(StepEquation(one, previous, network, noise), last_of(40)).latents
    torch.testing.assert_close(one.denoise(solved, network(solved, torch.arange(3)), noise), previous)


class Linear:
    """A random contracting linear map of small latents [B, 2, 2, 3] for each image."""

    def __init__(self, batch: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.matrices = torch.randn(batch, 12, 12, dtype=torch.float64, generator=generator) / 12
        self.offsets = torch.randn(batch, 12, dtype=torch.float64, generator=generator)
        self.latents = torch.randn(batch, 2, 2, 3, dtype=torch.float64, generator=generator)
        self.noise = torch.randn(batch, 2, 2, 3, dtype=torch.float64, generator=generator)

    def predict(self, latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        mapped = torch.einsum("nij,nj->ni", self.matrices[index], latents.flatten(1)) + self.offsets[index]
        return mapped.reshape(latents.shape)

    def regularize(self, prediction: torch.Tensor, latents: torch.Tensor, index: torch.Tensor, k: int) -> torch.Tensor:
        """Depends on every argument, so that a mix-up changes the result."""
        return 0.9 * prediction - 0.01 * latents + 0.1 * (index[:, None, None, None] + 1) / (k + 1)


def algorithm_1(
    one: Step, weights: list[float], linear: Linear, image: int, regularize: Regularize | None, tolerance: float | None
) -> torch.Tensor:
    """Runs the paper's pseudo-code for one image, line by line."""
    index = torch.tensor([image])
    previous, noise = linear.latents[index], linear.noise[index]
    estimates: list[torch.Tensor] = []
    z = previous
    for k, weight in enumerate(weights):
        delta = linear.predict(z, index)
        regular = delta if regularize is None else regularize(delta, z, index, k)
        used = regular if weight > 0 else delta
        renoised = (previous - one.psi * used - one.rho * noise) / one.phi
        error = one.phi * z + one.psi * used + one.rho * noise - previous
        if tolerance is not None and float(error.norm()) <= tolerance * float(previous.norm()):
            # All later estimates count as this one, which is then used.
            last = (previous - one.psi * regular - one.rho * noise) / one.phi
            return sum((w * z_k for w, z_k in zip(weights, estimates, strict=False)), sum(weights[k:]) * last)
        estimates.append(renoised)
        z = renoised
    return sum((w * z_k for w, z_k in zip(weights, estimates, strict=True)), torch.zeros_like(previous))


some_parts = st.lists(st.integers(0, 3), min_size=1, max_size=7).filter(lambda parts: parts[-1] > 0)


@given(
    parts=some_parts,
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
    solution = solve(StepEquation(one, linear.latents, linear.predict, linear.noise, regularize), weights, tolerance)
    expected = torch.cat([algorithm_1(one, weights, linear, image, regularize, tolerance) for image in range(batch)])
    torch.testing.assert_close(solution.latents, expected, rtol=0, atol=1e-12)


class Regularized:
    """A regularization that records the index of each call by k, and adds a constant."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []

    def __call__(self, prediction: torch.Tensor, latents: torch.Tensor, index: torch.Tensor, k: int) -> torch.Tensor:
        assert len(prediction) == len(latents) == len(index)
        self.calls.append((k, index.tolist()))
        return prediction + 0.1


@given(parts=some_parts)
def test_only_predictions_with_a_weight_are_regularized(parts: list[int]) -> None:
    weights = [part / sum(parts) for part in parts]
    regularize = Regularized()
    solve(StepEquation(step(), latents(), network, regularize=regularize), weights)
    assert regularize.calls == [(k, [0, 1, 2]) for k, weight in enumerate(weights) if weight > 0]


def test_a_prediction_is_regularized_at_the_latents_it_was_made_for() -> None:
    def regularize(prediction: torch.Tensor, points: torch.Tensor, index: torch.Tensor, k: int) -> torch.Tensor:
        torch.testing.assert_close(prediction, network(points, index), rtol=0, atol=0)
        return prediction + 0.1

    solve(StepEquation(step(), latents(), network, regularize=regularize), [0.2, 0.0, 0.3, 0.5], tolerance=1e-2)


def test_an_image_that_stops_at_an_estimate_without_weight_is_regularized_once() -> None:
    regularize, one, previous = Regularized(), step(), latents()
    equation = StepEquation(one, previous, constant_except_image_1, regularize=regularize)
    solution = solve(equation, [0.0] * 3 + [0.5] * 2, tolerance=1e-9)
    assert regularize.calls == [(1, [0, 2]), (3, [1]), (4, [1])]
    for image in (0, 2):
        torch.testing.assert_close(solution.latents[image], (previous[image] - one.psi * 1.1) / one.phi)


def test_an_image_that_stops_at_an_estimate_with_a_weight_is_not_regularized_twice() -> None:
    regularize, one, previous = Regularized(), step(), latents()
    equation = StepEquation(one, previous, constant_except_image_1, regularize=regularize)
    solution = solve(equation, [0.25] * 4, tolerance=1e-9)
    index_by_k = {k: [index for _, index in calls] for k, calls in groupby(regularize.calls, key=lambda call: call[0])}
    assert index_by_k == {0: [[0, 1, 2]], 1: [[0, 1, 2]], 2: [[1]], 3: [[1]]}
    for image in (0, 2):
        torch.testing.assert_close(solution.latents[image], (previous[image] - one.psi * 1.1) / one.phi)
