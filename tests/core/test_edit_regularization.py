from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.gaussians import draw_shifts, draw_uniform, gaussian, pair_gradient_by_autograd
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from renoise.core.edit_regularization import EditRegularization
from renoise.core.regularization_losses import (
    PatchKLGradient,
    kl_gradient,
    kl_loss,
    pair_loss,
    patch_kl_loss,
    pyramid_sizes,
)

PAPER = EditRegularization(lambda_pair=10, lambda_patch_kl=0.055)

sizes = st.one_of(
    st.sampled_from([(16, 16), (64, 64), (24, 40), (17, 33)]), st.tuples(st.integers(2, 40), st.integers(2, 40))
)
varied = settings(max_examples=25, deadline=None)


def smooth(*shape: int) -> torch.Tensor:
    """Noise of standard deviation 1 whose neighbors are correlated, as a bad inversion's prediction is."""
    blurred = F.avg_pool2d(F.pad(gaussian(*shape), (1, 1, 1, 1), mode="circular"), 3, stride=1)
    return blurred / blurred.std()


@varied
@given(size=sizes, dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), seed=st.integers(0, 99))
def test_shifts_are_between_1_and_half_of_the_side(size: tuple[int, int], dtype: torch.dtype, seed: int) -> None:
    uniform = draw_uniform(PAPER, *size, 2, seed).to(dtype)
    just_below_1 = 1 - torch.finfo(dtype).eps / 2
    uniform.clamp_(max=just_below_1)
    uniform[0], uniform[1] = 0, just_below_1
    shifts = PAPER.shifts(uniform, *size)
    halves = torch.tensor(pyramid_sizes(*size))[..., None] // 2
    assert shifts.dtype == torch.int64
    assert shifts.shape == uniform.shape
    assert bool((shifts >= 1).all() and (shifts <= halves).all())
    assert bool((shifts[0] == 1).all() and (shifts[1] == halves).all())


@pytest.mark.parametrize("size", [(16, 16), (64, 64)])
def test_the_standard_deviation_of_noise_stays_within_2_percent(size: tuple[int, int]) -> None:
    noise, target = gaussian(16, 4, *size), gaussian(16, 4, *size, seed=1)
    regularized = PAPER.regularize(noise, target, draw_uniform(PAPER, *size, 16))
    ratio = regularized.flatten(1).std(1) / noise.flatten(1).std(1)
    assert float((ratio - 1).abs().max()) < 0.02


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (64, 64)])
def test_the_autocorrelation_of_smooth_noise_falls(size: tuple[int, int]) -> None:
    noise, target = smooth(4, 4, *size), gaussian(4, 4, *size, seed=1)
    regularized = PAPER.regularize(noise, target, draw_uniform(PAPER, *size, 4))
    held_out = [draw_shifts(*size, 4, seed) for seed in range(100, 150)]

    def mean_loss(noise: torch.Tensor) -> torch.Tensor:
        return torch.stack([pair_loss(noise, shifts) for shifts in held_out]).mean(0)

    assert bool((mean_loss(regularized) < mean_loss(noise)).all())


@pytest.mark.parametrize(
    ("regularization", "loss"),
    [
        (EditRegularization(lambda_patch_kl=0.055), lambda n, target: patch_kl_loss(n, target)),
        (EditRegularization(lambda_kl=10), lambda n, target: kl_loss(n)),
    ],
    ids=["patch-KL", "KL"],
)
def test_regularization_lowers_each_kl_loss(
    regularization: EditRegularization, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> None:
    noise, target = 0.2 + 1.3 * gaussian(3, 4, 24, 40), gaussian(3, 4, 24, 40, seed=1)
    regularized = regularization.regularize(noise, target, draw_uniform(regularization, 24, 40, 3))
    assert bool((loss(regularized, target) < loss(noise, target)).all())


def test_a_gradient_step_follows_the_kl_losses_first_and_then_the_mean_of_the_pair_gradients() -> None:
    regularization = EditRegularization(
        lambda_pair=10, lambda_patch_kl=0.05, lambda_kl=2, num_reg_steps=2, num_ac_rolls=3
    )
    noise, target, uniform = smooth(2, 4, 16, 16), gaussian(2, 4, 16, 16), draw_uniform(regularization, 16, 16, 2)
    expected = noise
    for shifts in regularization.shifts(uniform, 16, 16):
        expected = expected - 0.05 * PatchKLGradient(target, 0.05)(expected) - 2 * kl_gradient(expected)
        expected = expected - 10 * pair_gradient_by_autograd(expected, shifts)
    torch.testing.assert_close(regularization.regularize(noise, target, uniform), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_round_the_gradients(dtype: torch.dtype) -> None:
    regularization = EditRegularization(lambda_pair=10, lambda_patch_kl=0.05, lambda_kl=2)
    noise, target = smooth(2, 4, 16, 16).to(dtype), gaussian(2, 4, 16, 16, dtype=dtype)
    uniform = draw_uniform(regularization, 16, 16, 2)
    expected = regularization.regularize(noise.float(), target.float(), uniform)
    with torch.autocast("cpu", dtype):
        assert regularization.regularize(noise, target, uniform).equal(expected)


@pytest.mark.parametrize(("dtype", "target_dtype"), [(torch.float32, torch.float64), (torch.float64, torch.float16)])
def test_the_result_has_the_type_of_the_noise_whatever_the_target_has(
    dtype: torch.dtype, target_dtype: torch.dtype
) -> None:
    noise, target = gaussian(1, 4, 16, 16, dtype=dtype), gaussian(1, 4, 16, 16, seed=1, dtype=target_dtype)
    uniform = draw_uniform(PAPER, 16, 16, 1)
    expected = PAPER.regularize(noise, target.to(dtype), uniform)
    assert expected.dtype == dtype
    assert PAPER.regularize(noise, target, uniform).equal(expected)


class LaunchCounter(TorchDispatchMode):
    """Counts the operations that run a kernel on a GPU. Views and questions about types run none."""

    count = 0
    no_kernel = frozenset({"promote_types", "_unsafe_view", "_reshape_alias", "detach"})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and func.overloadpacket.__name__ not in self.no_kernel
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch", [1, 4])
def test_the_regularization_of_sdxl_turbo_launches_at_most_150_kernels(batch: int) -> None:
    noise, target = gaussian(batch, 4, 64, 64), gaussian(batch, 4, 64, 64, seed=1)
    uniform = draw_uniform(PAPER, 64, 64, batch)
    PAPER.regularize(noise, target, uniform)  # makes the bases, which are kept
    with LaunchCounter() as launches:
        PAPER.regularize(noise, target, uniform)
    assert 50 < launches.count <= 150


@varied
@given(exponent=st.floats(-6, 0), weight=st.floats(1e-3, 1), seed=st.integers(0, 99))
def test_nearly_flat_patches_do_not_become_noisier_than_the_target(exponent: float, weight: float, seed: int) -> None:
    regularization = EditRegularization(lambda_patch_kl=weight)
    noise, target = 10**exponent * gaussian(1, 4, 16, 16, seed=seed), gaussian(1, 4, 16, 16, seed=seed + 100)
    regularized = regularization.regularize(noise, target, draw_uniform(regularization, 16, 16, 1))

    def spread(map: torch.Tensor) -> torch.Tensor:
        return map.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).std(-1)

    assert bool((spread(regularized) <= 1.001 * torch.maximum(spread(noise), spread(target))).all())


@pytest.mark.parametrize(("size", "factor"), [((16, 16), 1 / 16), ((16, 32), 1 / 8), ((64, 64), 1)])
def test_the_reference_size_scales_the_weights_whose_gradients_depend_on_the_size(
    size: tuple[int, int], factor: float
) -> None:
    scaled = EditRegularization(lambda_pair=10, lambda_patch_kl=0.05, lambda_kl=20, reference_size=64)
    literal = replace(scaled, lambda_pair=10 * factor, lambda_kl=20 * factor, reference_size=None)
    noise, target, uniform = smooth(2, 4, *size), gaussian(2, 4, *size, seed=1), draw_uniform(scaled, *size, 2)
    expected = literal.regularize(noise, target, uniform)
    torch.testing.assert_close(scaled.regularize(noise, target, uniform), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_with_a_reference_size_small_latents_move_as_much_as_large_ones(seed: int) -> None:
    regularization = EditRegularization(lambda_kl=20, reference_size=64)
    moved = []
    for side in (16, 64):
        noise = 1.5 * gaussian(1, 4, side, side, seed=seed)
        regularized = regularization.regularize(noise, None, draw_uniform(regularization, side, side, 1))
        moved.append(float((regularized - noise).std() / noise.std()))
    assert moved[0] == pytest.approx(moved[1], rel=0.1)


def test_gradients_are_clipped_at_100() -> None:
    regularization = EditRegularization(lambda_patch_kl=0.01, num_reg_steps=1)
    noise = gaussian(1, 4, 8, 8)
    regularized = regularization.regularize(noise, torch.zeros_like(noise), draw_uniform(regularization, 8, 8, 1))
    # A step of this size to the constant patch would be as long as the distance, which is more than 1.
    assert float((regularized - noise).abs().max()) == pytest.approx(1.0)


def test_only_the_patch_loss_needs_a_target() -> None:
    noise = gaussian(1, 4, 8, 8)
    pair = EditRegularization(lambda_pair=10)
    patch = EditRegularization(lambda_patch_kl=0.05)
    assert not pair.needs_target
    assert not EditRegularization(lambda_kl=1).needs_target
    assert patch.needs_target
    pair.regularize(noise, None, draw_uniform(pair, 8, 8, 1))
    with pytest.raises(ValueError, match="target"):
        patch.regularize(noise, None, draw_uniform(patch, 8, 8, 1))


@pytest.mark.parametrize("name", ["lambda_pair", "lambda_patch_kl", "lambda_kl"])
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_an_error_about_a_weight_names_it(name: str, value: float) -> None:
    weights: Any = {name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be 0 or more and finite, got {value}$"):
        EditRegularization(**weights)


@pytest.mark.parametrize("name", ["num_reg_steps", "num_ac_rolls"])
def test_an_error_about_a_count_names_it(name: str) -> None:
    counts: dict[str, int] = {name: 0}
    with pytest.raises(ValueError, match=rf"^{name} must be 1 or more, got 0$"):
        EditRegularization(lambda_pair=1, **counts)


def test_a_reference_size_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^reference_size must be 1 or more, got 0; null scales no weight$"):
        EditRegularization(lambda_pair=1, reference_size=0)


def test_regularization_with_all_weights_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lambda_pair.*null turns regularization off"):
        EditRegularization()
