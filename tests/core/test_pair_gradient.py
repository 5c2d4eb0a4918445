from __future__ import annotations

import pytest
import torch
from helpers.gaussians import draw_uniform, gaussian, pair_gradient_by_autograd
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.edit_regularization import EditRegularization
from renoise.core.pair_gradient import PairGradient

sizes = st.one_of(
    st.sampled_from([(16, 16), (64, 64), (24, 40), (17, 33), (8, 100), (35, 18)]),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
)
varied = settings(max_examples=25, deadline=None)


def draw_rolls(size: tuple[int, int], steps: int, rolls: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Returns random shifts, int64 [num_reg_steps, num_ac_rolls, L, 2, B]."""
    regularization = EditRegularization(lambda_pair=1, num_reg_steps=steps, num_ac_rolls=rolls)
    return regularization.shifts(draw_uniform(regularization, *size, batch, seed), *size)


@varied
@given(
    size=sizes,
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    rolls=st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    mean=st.sampled_from([0.0, 2.0]),
    seed=st.integers(0, 99),
)
def test_it_is_the_gradient_of_the_losses_of_rolled_maps(
    size: tuple[int, int], batch: int, channels: int, rolls: int, dtype: torch.dtype, mean: float, seed: int
) -> None:
    noise = mean + gaussian(batch, channels, *size, seed=seed)
    shifts = draw_rolls(size, 2, rolls, batch, seed)
    found = PairGradient(shifts, size, dtype)
    for reg_step in range(2):
        gradient = found(noise.to(dtype), reg_step)
        expected = pair_gradient_by_autograd(noise, shifts[reg_step])
        assert gradient.dtype == dtype
        assert gradient.shape == expected.shape
        assert (gradient - expected).norm() <= (1e-5 if dtype == torch.float32 else 1e-12) * expected.norm()


@pytest.mark.parametrize("shift", [0, 1, 5, 15])
def test_a_shift_may_be_any_position_of_the_finest_map(shift: int) -> None:
    noise, shifts = gaussian(1, 2, 16, 16), torch.full((1, 1, 2, 2, 1), shift)
    expected = pair_gradient_by_autograd(noise, shifts[0])
    torch.testing.assert_close(PairGradient(shifts, (16, 16), torch.float64)(noise, 0), expected, rtol=1e-10, atol=0)


def test_an_image_that_is_nan_does_not_touch_the_others() -> None:
    noise, shifts = gaussian(3, 4, 16, 16), draw_rolls((16, 16), 1, 2, 3)
    gradient = PairGradient(shifts, (16, 16), torch.float64)
    expected = gradient(noise, 0)
    noise[1] = torch.nan
    found = gradient(noise, 0)
    assert bool(found[1].isnan().all())
    assert found[[0, 2]].equal(expected[[0, 2]])


def test_bases_made_in_inference_mode_serve_autograd_later() -> None:
    size = (44, 50)  # of no other test: bases are kept
    shifts, noise = draw_rolls(size, 1, 1, 1), gaussian(1, 1, *size)
    with torch.inference_mode():
        expected = PairGradient(shifts, size, torch.float64)(noise, 0)
    found = PairGradient(shifts, size, torch.float64)(noise.requires_grad_(), 0)
    found.sum().backward()
    assert found.equal(expected)
