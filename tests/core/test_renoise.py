from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.renoise import AveragingWeights, Predict, Regularize, Renoising
from renoise.core.step import Step
from renoise.errors import InputError

TABLE_1_TURBO = AveragingWeights(below=[0.25] * 4, above=[0.0] * 7 + [1 / 3] * 3)


def step(phi: float = 1.2, psi: float = -0.3, rho: float = 0.0, timestep: float = 500) -> Step:
    return Step(timestep, phi, psi, rho, input_scale=1.0, signal=0.8, sigma=0.6)


def latents(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Smooth and nonlinear, with a Jacobian norm of at most 1."""
    return torch.sin(latents) + 0.1 * torch.cos(latents).roll(1, dims=-1) * 0.5


class Counted:
    """A network that remembers which rows each call asked for."""

    def __init__(self, network: Predict) -> None:
        self.network = network
        self.calls: list[list[int]] = []

    def __call__(self, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        self.calls.append(rows.tolist())
        return self.network(latents, rows)


def test_no_renoising_is_the_plain_reversal_of_the_sampler() -> None:
    previous, one = latents(), step()
    solved = Renoising(0).solve(one, previous, network)
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

    once = Renoising(1).solve(one, previous, drift)
    back = one.denoise(once, drift_at(noisier).expand_as(once), None)
    assert (back - previous).abs().max() <= 1e-6
    assert (once - (previous - shift * math.exp(-noisier) * delta)).abs().max() <= 1e-6
    euler = Renoising(0).solve(one, previous, drift)
    assert (one.denoise(euler, drift_at(noisier).expand_as(euler), None) - previous).abs().max() > 0.05


def test_the_residual_falls_exponentially_to_the_fixed_point() -> None:
    previous, one = latents(), step()
    residuals = []
    for iterations in (0, 4, 8, 40):
        solved = Renoising(iterations).solve(one, previous, network)
        back = one.denoise(solved, network(solved, torch.arange(3)), None)
        residuals.append(float((back - previous).abs().max()))
    assert residuals[1] < residuals[0] / 50
    assert residuals[2] < residuals[1] / 50
    assert residuals[3] < 1e-14


def test_the_result_is_the_weighted_mean_of_the_estimates() -> None:
    previous, one = latents(), step()
    estimates = [Renoising(k).solve(one, previous, network) for k in range(3)]
    weights = AveragingWeights(below=[1.0], above=[0.2, 0.3, 0.5])
    solved = Renoising(2, weights).solve(one, previous, network)
    expected = 0.2 * estimates[0] + 0.3 * estimates[1] + 0.5 * estimates[2]
    torch.testing.assert_close(solved, expected)


@pytest.mark.parametrize(("timestep", "calls"), [(1, 4), (249, 4), (250, 10), (999, 10)])
def test_the_network_is_not_called_beyond_the_last_weight(timestep: float, calls: int) -> None:
    counted = Counted(network)
    Renoising(9, TABLE_1_TURBO).solve(step(timestep=timestep), latents(), counted)
    assert len(counted.calls) == calls


def test_averages_converge_to_the_same_fixed_point() -> None:
    previous, one = latents(), step()
    exact = Renoising(60).solve(one, previous, network)
    late = AveragingWeights(below=[1.0], above=[0.0] * 51 + [0.1] * 10)
    torch.testing.assert_close(Renoising(60, late).solve(one, previous, network), exact, rtol=0, atol=1e-12)


def test_each_image_stops_by_itself_and_is_not_computed_any_more() -> None:
    still = torch.tensor([True, False, True])

    def partly_constant(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.where(still[rows, None, None, None], torch.ones_like(points), network(points, rows))

    counted = Counted(partly_constant)
    Renoising(5, tolerance=1e-3).solve(step(), latents(), counted)
    # A constant network answers the second call as the first, and is settled then.
    assert counted.calls[:2] == [[0, 1, 2], [0, 1, 2]]
    assert all(call == [1] for call in counted.calls[2:])


@given(batch=st.integers(1, 5), tolerance=st.sampled_from([None, 1e-1, 1e-3, 1e-6]), averaged=st.booleans())
def test_an_image_is_solved_the_same_alone_and_among_others(
    batch: int, tolerance: float | None, averaged: bool
) -> None:
    weights = AveragingWeights(below=[1.0], above=[0.0] * 3 + [0.25] * 4) if averaged else None
    renoising = Renoising(6, weights, tolerance)
    previous = latents(batch) * torch.arange(1, batch + 1, dtype=torch.float64)[:, None, None, None]
    together = renoising.solve(step(), previous, network)
    alone = torch.cat([renoising.solve(step(), one, network) for one in previous.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_stopping_early_counts_the_remaining_weights_for_the_last_estimate() -> None:
    def constant(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(points)

    weights = AveragingWeights(below=[1.0], above=[0.0, 0.1, 0.2, 0.7])
    one, previous = step(), latents()
    solved = Renoising(3, weights, tolerance=1e-6).solve(one, previous, constant)
    torch.testing.assert_close(solved, (previous - one.psi) / one.phi)


def test_the_noise_of_a_stochastic_step_is_taken_out() -> None:
    one, previous = step(rho=0.5), latents()
    noise = torch.randn_like(previous)
    solved = Renoising(40).solve(one, previous, network, noise)
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
        """Depends on all that it is given, so that none can be mixed up."""
        return 0.9 * prediction - 0.01 * latents + 0.1 * (rows[:, None, None, None] + 1) / (k + 1)


def algorithm_1(
    one: Step, weights: list[float], linear: Linear, row: int, regularize: Regularize | None, tolerance: float | None
) -> torch.Tensor:
    """PAPER's pseudo-code for one image, line by line."""
    rows = torch.tensor([row])
    previous, noise = linear.latents[rows], linear.noise[rows]
    estimates, z = [], previous
    for k, weight in enumerate(weights):
        delta = linear.predict(z, rows)
        regular = delta if regularize is None else regularize(delta, z, rows, k)
        renoised = (previous - one.psi * (regular if weight > 0 else delta) - one.rho * noise) / one.phi
        settled = tolerance is not None and float((renoised - z).norm()) <= tolerance * float(renoised.norm())
        if settled:  # all the later estimates count as this one, which has a say then
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
    renoising = Renoising(len(weights) - 1, AveragingWeights(below=[1.0], above=weights), tolerance)
    solved = renoising.solve(one, linear.latents, linear.predict, linear.noise, regularize)
    dense = torch.cat([algorithm_1(one, weights, linear, row, regularize, tolerance) for row in range(batch)])
    torch.testing.assert_close(solved, dense, rtol=0, atol=1e-12)


class Regularized:
    """A regularization that remembers which rows each k asked for, and adds a constant."""

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
    renoising = Renoising(len(weights) - 1, AveragingWeights(below=[1.0], above=weights))
    renoising.solve(step(), latents(), network, regularize=regularize)
    assert regularize.calls == [(k, [0, 1, 2]) for k, weight in enumerate(weights) if weight > 0]


def test_without_weights_the_last_prediction_alone_is_regularized() -> None:
    regularize = Regularized()
    Renoising(3).solve(step(), latents(), network, regularize=regularize)
    assert regularize.calls == [(3, [0, 1, 2])]


def test_a_prediction_is_regularized_at_the_latents_that_it_was_made_for() -> None:
    def regularize(prediction: torch.Tensor, points: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
        torch.testing.assert_close(prediction, network(points, rows), rtol=0, atol=0)
        return prediction + 0.1

    weights = AveragingWeights(below=[1.0], above=[0.2, 0.0, 0.3, 0.5])
    Renoising(3, weights, tolerance=1e-2).solve(step(), latents(), network, regularize=regularize)


def settling(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Constant, and so settled at the second call, but for image 1."""
    return torch.where((rows == 1)[:, None, None, None], network(points, rows), torch.ones_like(points))


def test_an_image_that_settles_without_a_weight_is_regularized_once_nevertheless() -> None:
    regularize, one, previous = Regularized(), step(), latents()
    weights = AveragingWeights(below=[1.0], above=[0.0] * 3 + [0.5] * 2)
    solved = Renoising(4, weights, tolerance=1e-9).solve(one, previous, settling, regularize=regularize)
    assert regularize.calls == [(1, [0, 2]), (3, [1]), (4, [1])]
    for row in (0, 2):
        torch.testing.assert_close(solved[row], (previous[row] - one.psi * 1.1) / one.phi)


def test_an_image_that_settles_with_a_weight_is_regularized_no_second_time() -> None:
    regularize, one, previous = Regularized(), step(), latents()
    weights = AveragingWeights(below=[1.0], above=[0.25] * 4)
    solved = Renoising(3, weights, tolerance=1e-9).solve(one, previous, settling, regularize=regularize)
    rows_of = {k: [rows for _, rows in calls] for k, calls in groupby(regularize.calls, key=lambda call: call[0])}
    assert rows_of == {0: [[0, 1, 2]], 1: [[0, 1, 2]], 2: [[1]], 3: [[1]]}
    for row in (0, 2):
        torch.testing.assert_close(solved[row], (previous[row] - one.psi * 1.1) / one.phi)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: Renoising(-1), r"model\.renoise_iterations must be 0 or more, got -1"),
    (lambda: Renoising(1, tolerance=0.0), r"model\.tolerance must be positive or null, got 0\.0"),
    (lambda: Renoising(1, AveragingWeights([0.5, 0.6], [1.0])), r"averaging_weights\.below .* sum to 1"),
    (lambda: Renoising(1, AveragingWeights([1.0], [1.5, -0.5])), r"averaging_weights\.above .* at least 0"),
    (
        lambda: Renoising(1, AveragingWeights([1.0], [0.0, 0.5, 0.5])),
        r"above holds 3 weights, .* there are 2 estimates",
    ),
    (lambda: Renoising(0, AveragingWeights([], [1.0])), r"averaging_weights\.below"),
    (lambda: Renoising(4, AveragingWeights([0.5, 0.5], [0.0, 1.0])), r"renoise_iterations 4 would change nothing"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_settings_that_make_no_sense_are_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
