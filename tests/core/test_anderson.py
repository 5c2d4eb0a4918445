from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.anderson import Anderson
from renoise.core.fixed_point import Predict, Solution, StepEquation
from renoise.core.renoise import Renoising
from renoise.core.step import Step

STEP = Step(timestep=500, phi=1.0, psi=-1.0, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
"""G(z) = z_{t-1} + network(z)."""


def random(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def equation(network: Predict, previous: torch.Tensor, warm: bool = True) -> StepEquation:
    return StepEquation(STEP, previous, network, warm_start=previous if warm else None)


def last_of(calls: int) -> list[float]:
    return [0.0] * (calls - 1) + [1.0]


def solve(memory: int, calls: int, one: StepEquation) -> Solution:
    return Anderson(memory).solve(one, last_of(calls))


def smooth(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return 0.4 * latents + 0.2 * torch.sin(latents)


@given(rate=st.floats(-0.95, 0.75))
@settings(max_examples=30, deadline=None)
def test_a_linear_map_of_one_rate_is_solved_exactly_in_three_calls(rate: float) -> None:
    """Anderson acceleration of a linear map is GMRES (Walker and Ni 2011), which is exact after as many residuals."""
    previous = random()
    solution = solve(1, 3, equation(lambda latents, index: rate * latents, previous))
    torch.testing.assert_close(solution.latents, previous / (1 - rate), rtol=0, atol=1e-6)


def test_two_rates_are_solved_by_a_memory_of_two_and_not_by_one() -> None:
    factor = torch.tensor([0.6, -0.4], dtype=torch.float64).repeat(4)
    previous = random()
    one = equation(lambda latents, index: factor * latents, previous)
    errors = [(solve(memory, 4, one).latents - previous / (1 - factor)).abs().max() for memory in (1, 2)]
    assert errors[1] <= 1e-6 < errors[0] / 100


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_it_takes_the_calls_of_plain_renoising_and_leaves_a_smaller_error(memory: int) -> None:
    calls: list[int] = []

    def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        calls.append(len(index))
        return smooth(latents, index)

    one = equation(network, random())
    exact = Renoising().solve(one, last_of(200)).latents
    calls.clear()
    accelerated = solve(memory, 8, one)
    assert calls == [3] * 8
    plain = Renoising().solve(one, last_of(8))
    assert (accelerated.latents - exact).norm() <= (plain.latents - exact).norm() / 10
    assert accelerated.iterations.tolist() == plain.iterations.tolist() == [8] * 3
    assert not accelerated.fell_back.any()
    assert plain.fell_back is None


def test_images_are_mixed_each_by_itself_and_stop_each_by_itself() -> None:
    previous = random()
    together = Anderson(2).solve(equation(smooth, previous), last_of(30), tolerance=1e-6)
    for image in range(3):
        alone = Anderson(2).solve(equation(smooth, previous[image : image + 1]), last_of(30), tolerance=1e-6)
        torch.testing.assert_close(alone.latents[0], together.latents[image], rtol=0, atol=1e-10)
        assert alone.iterations[0] == together.iterations[image] < 30
    assert together.converged is not None
    assert together.converged.all()


def test_a_cold_start_leaves_the_first_residual_out() -> None:
    """It is of a point at the wrong noise level."""
    previous = random()
    cold, warm = (equation(smooth, previous, warm) for warm in (False, True))
    assert torch.equal(solve(1, 2, cold).latents, Renoising().solve(cold, last_of(2)).latents)
    assert not torch.equal(solve(1, 2, warm).latents, solve(1, 2, cold).latents)
    assert not torch.equal(solve(1, 3, cold).latents, Renoising().solve(cold, last_of(3)).latents)


def test_nearly_dependent_residuals_are_not_mixed() -> None:
    """A map that moves every point by nearly the same has no fixed point near; γ would be in the hundreds."""
    previous = random()
    one = equation(lambda latents, index: latents * 0.999, previous)
    torch.testing.assert_close(solve(1, 5, one).latents, Renoising().solve(one, last_of(5)).latents)


def wild(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Image 0 has no fixed point that can be found, image 1 has one."""
    is_wild = torch.where(index == 0, 1.0, 0.0).view(-1, 1, 1, 1)
    return is_wild * 3 * torch.cos(5 * latents) + (1 - is_wild) * 0.5 * latents.sin()


def test_a_step_ends_with_the_estimate_of_the_least_residual_where_the_last_is_worse() -> None:
    previous = random(2)
    seen: list[tuple[float, torch.Tensor]] = []

    def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        moved = wild(latents, index)
        renoised = previous + moved
        defects = (renoised - latents).flatten(1).norm(dim=1) / previous.flatten(1).norm(dim=1)
        seen.append((float(defects[0]), renoised[0]))
        return moved

    solution = solve(1, 14, equation(network, previous))
    assert solution.fell_back is not None
    assert solution.fell_back.tolist() == [True, False]
    residuals = [residual for residual, _ in seen]
    assert residuals[-1] > min(residuals)
    torch.testing.assert_close(solution.latents[0], seen[residuals.index(min(residuals))][1])
    assert float(solution.residual[0]) == pytest.approx(min(residuals))


def test_an_image_whose_residual_has_risen_five_times_is_renoised_plainly() -> None:
    previous = random(2)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        moved = wild(latents, index)
        seen.append((latents[0], (previous + moved)[0]))
        return moved

    solve(1, 30, equation(network, previous))
    norms = [float((renoised - estimate).norm()) for estimate, renoised in seen]
    rises = [k for k in range(1, 30) if norms[k] > norms[k - 1]]
    for k in range(1, 30):
        fallen_back, rose = len([rise for rise in rises if rise < k]) >= 5, k - 1 in rises
        if fallen_back or rose:
            assert torch.equal(seen[k][0], seen[k - 1][1])
    assert len(rises) > 5


def test_rounding_is_no_reason_to_fall_back() -> None:
    previous = random().float()
    solution = solve(1, 60, equation(lambda latents, index: 0.3 * latents.sin(), previous))
    assert not solution.fell_back.any()


def test_mixing_starts_anew_where_regularization_begins() -> None:
    """The regularized map is another one: estimates before and after it are not mixed."""
    previous = random()

    def regularize(prediction: torch.Tensor, latents: torch.Tensor, index: torch.Tensor, k: int) -> torch.Tensor:
        return prediction + 1.0

    def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return 0.5 * latents

    one = StepEquation(STEP, previous, network, regularize=regularize, warm_start=previous)
    solved = Anderson(1).solve(one, [0.0, 0.0, 0.5, 0.5])
    second = solve(1, 2, equation(network, previous)).latents
    third = previous + 0.5 * second + 1.0  # not mixed
    fixed = 2 * (previous + 1.0)  # mixed with the third alone
    torch.testing.assert_close(solved.latents, (third + fixed) / 2, rtol=0, atol=1e-6)


def test_one_broken_image_leaves_the_others_as_they_are() -> None:
    previous = random()
    previous[1] = torch.nan
    solution = solve(2, 6, equation(smooth, previous))
    assert solution.latents.isfinite().flatten(1).all(1).tolist() == [True, False, True]
    alone = solve(2, 6, equation(smooth, previous[2:]))
    torch.testing.assert_close(solution.latents[2:], alone.latents, rtol=0, atol=1e-10)


@pytest.mark.parametrize("memory", [-1, 0, 6])
def test_a_memory_out_of_range_is_refused(memory: int) -> None:
    with pytest.raises(ValueError, match=rf"^memory must be 1 to 5, got {memory}$"):
        Anderson(memory)
