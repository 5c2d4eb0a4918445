from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_variants import (
    pipeline_stable_diffusion_pix2pix_zero as pix2pix_zero,
)
from helpers.gaussians import draw_shifts, draw_uniform, gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

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
EVERYTHING = EditRegularization(lambda_pair=10, lambda_patch_kl=0.055, lambda_kl=1, num_reg_steps=2, num_ac_rolls=3)
PIPELINE = pix2pix_zero.StableDiffusionPix2PixZeroPipeline

sizes = st.one_of(
    st.sampled_from([(16, 16), (64, 64), (24, 40), (17, 33)]), st.tuples(st.integers(2, 40), st.integers(2, 40))
)
varied = settings(max_examples=25, deadline=None)


def by_autograd(loss: Callable[[torch.Tensor], torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
    noise = noise.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(noise).sum(), noise)
    return gradient


def assert_same_gradient(gradient: torch.Tensor, expected: torch.Tensor) -> None:
    assert gradient.shape == expected.shape
    assert (gradient - expected).norm() <= 1e-6 * expected.norm()


@varied
@given(size=sizes, batch=st.integers(1, 3), channels=st.integers(1, 4), seed=st.integers(0, 99))
def test_gradients_are_those_of_autograd(size: tuple[int, int], batch: int, channels: int, seed: int) -> None:
    noise, target = gaussian(batch, channels, *size, seed=seed), gaussian(batch, channels, *size, seed=seed + 100)
    assert_same_gradient(kl_gradient(noise), by_autograd(kl_loss, noise))
    assert_same_gradient(PatchKLGradient(target, 0.055)(noise), by_autograd(lambda n: patch_kl_loss(n, target), noise))


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (24, 40), (9, 9)])
def test_the_pair_loss_is_that_of_pix2pix_zero(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    noise, shifts = gaussian(2, 3, *size), draw_shifts(*size, 2)
    shifts[:, 1] = shifts[:, 0]  # pix2pix-zero shifts both axes alike

    def drawn(images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The shifts in the order in which pix2pix-zero asks for them: by image, channel, level."""
        for image in range(len(images)):
            for _ in range(images.shape[1]):
                yield from shifts[:, 0, image]

    asked = drawn(noise)
    monkeypatch.setattr(pix2pix_zero.torch, "randint", lambda *arguments, **options: next(asked))
    expected = PIPELINE.auto_corr_loss(None, noise)
    assert next(asked, None) is None
    torch.testing.assert_close(pair_loss(noise, shifts).sum(), expected)


def test_the_pair_loss_uses_one_shift_per_axis_and_image() -> None:
    noise = gaussian(2, 1, 6, 8)
    shifts = torch.tensor([[[1, 2], [3, 4]]])
    expected = [
        (noise[image] * noise[image].roll(int(shifts[0, 0, image]), 1)).mean() ** 2
        + (noise[image] * noise[image].roll(int(shifts[0, 1, image]), 2)).mean() ** 2
        for image in range(2)
    ]
    torch.testing.assert_close(pair_loss(noise, shifts), torch.stack(expected))


def test_shifts_for_another_pyramid_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        pair_loss(gaussian(1, 4, 16, 16), draw_shifts(8, 8, 1))
    with pytest.raises(ValueError, match="uniform must be"):
        PAPER.regularize(gaussian(1, 4, 16, 16), gaussian(1, 4, 16, 16), draw_uniform(PAPER, 8, 8, 1))


def test_the_pyramid_ends_where_the_smaller_side_is_at_most_8() -> None:
    assert pyramid_sizes(64, 64) == [(64, 64), (32, 32), (16, 16), (8, 8)]
    assert pyramid_sizes(40, 24) == [(40, 24), (20, 12), (10, 6)]
    assert pyramid_sizes(17, 19) == [(17, 19), (8, 9)]
    assert pyramid_sizes(8, 100) == [(8, 100)]


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_the_kl_loss_is_that_of_pix2pix_zero(scale: float) -> None:
    noise = 0.1 + scale * gaussian(3, 4, 16, 16)
    expected = torch.stack([PIPELINE.kl_divergence(None, image) for image in noise])
    torch.testing.assert_close(kl_loss(noise), expected, rtol=0, atol=2e-5)  # the guards are 1e-7 and 1e-6


@varied
@given(size=sizes.filter(lambda size: min(size) >= 4), seed=st.integers(0, 99))
def test_the_patch_kl_loss_is_twice_the_divergence_of_the_patches_gaussians(size: tuple[int, int], seed: int) -> None:
    noise, target = 0.5 + 2 * gaussian(2, 3, *size, seed=seed), gaussian(2, 3, *size, seed=seed + 100)

    def fitted(map: torch.Tensor) -> Normal:
        patches = map.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
        return Normal(patches.mean(-1), patches.std(-1))

    expected = 2 * kl_divergence(fitted(noise), fitted(target)).sum((1, 2, 3))
    torch.testing.assert_close(patch_kl_loss(noise, target), expected, rtol=1e-3, atol=1e-3)


def moments(map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations of the 4×4 patches."""
    patches = map.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    return patches.mean(-1), patches.std(-1)


between_flat_and_noisy = st.floats(-4, 1).map(lambda exponent: float(10**exponent))


@varied
@given(
    std=between_flat_and_noisy,
    target_std=between_flat_and_noisy,
    step_size=st.floats(1e-3, 1),
    distance=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
def test_a_step_on_the_patch_loss_never_passes_the_targets_mean_and_standard_deviation(
    std: float, target_std: float, step_size: float, distance: float, seed: int
) -> None:
    noise = distance + std * gaussian(2, 3, 8, 8, seed=seed)
    target = target_std * gaussian(2, 3, 8, 8, seed=seed + 100)
    moved = noise - step_size * PatchKLGradient(target, step_size)(noise)
    (mean, spread), (aimed_mean, aimed_spread), (new_mean, new_spread) = map(moments, (noise, target, moved))
    for before, after, aim in ((mean, new_mean, aimed_mean), (spread, new_spread, aimed_spread)):
        slack = 1e-3 + 1e-3 * aim.abs()  # EPSILON is 1e-3 squared
        assert bool((after >= torch.minimum(before, aim) - slack).all())
        assert bool((after <= torch.maximum(before, aim) + slack).all())
        assert bool(((after - aim).abs() <= (before - aim).abs() + slack).all())


@varied
@given(std=st.floats(0.2, 3), target_std=st.floats(0.5, 3), step_size=st.floats(1e-3, 0.075), seed=st.integers(0, 99))
def test_the_bound_of_the_step_does_not_touch_ordinary_patches(
    std: float, target_std: float, step_size: float, seed: int
) -> None:
    noise, target = std * gaussian(2, 3, 8, 8, seed=seed), target_std * gaussian(2, 3, 8, 8, seed=seed + 100)
    expected = by_autograd(lambda n: patch_kl_loss(n, target), noise)
    torch.testing.assert_close(PatchKLGradient(target, step_size)(noise), expected, rtol=1e-9, atol=1e-9)


def test_positions_outside_whole_patches_have_no_gradient() -> None:
    gradient = PatchKLGradient(gaussian(1, 2, 11, 14), 0.055)(gaussian(1, 2, 11, 14, seed=1))
    assert gradient[..., 8:, :].abs().max() == 0
    assert gradient[..., 12:].abs().max() == 0
    assert bool((gradient[..., :8, :12] != 0).all())


@pytest.mark.filterwarnings("error")
def test_a_map_too_small_for_any_patch_has_no_patch_loss() -> None:
    noise, target = gaussian(2, 3, 3, 9), gaussian(2, 3, 3, 9, seed=1)
    assert patch_kl_loss(noise, target).tolist() == [0, 0]
    assert PatchKLGradient(target, 0.055)(noise).abs().max() == 0


@varied
@given(size=sizes, batch=st.integers(2, 4), seed=st.integers(0, 99))
def test_an_image_is_regularized_the_same_alone_and_in_a_batch(size: tuple[int, int], batch: int, seed: int) -> None:
    scale = torch.arange(1, batch + 1, dtype=torch.float64)[:, None, None, None]
    noise, target = scale * gaussian(batch, 4, *size, seed=seed), gaussian(batch, 4, *size, seed=seed + 100)
    uniform = draw_uniform(EVERYTHING, *size, batch, seed)
    together = EVERYTHING.regularize(noise, target, uniform)
    alone = [
        EVERYTHING.regularize(noise[image, None], target[image, None], uniform[..., image, None])
        for image in range(batch)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


CONSTANT, ZEROS = torch.full((2, 4, 16, 16), 3.0), torch.zeros(2, 4, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("noise", [CONSTANT, ZEROS, gaussian(2, 4, 16, 16)], ids=["constant", "zeros", "gaussian"])
@pytest.mark.parametrize("target", [CONSTANT, ZEROS, gaussian(2, 4, 16, 16)], ids=["constant", "zeros", "gaussian"])
def test_constant_patches_and_half_precision_stay_finite(
    noise: torch.Tensor, target: torch.Tensor, dtype: torch.dtype
) -> None:
    noise, target = noise.to(dtype), target.to(dtype)
    shifts = draw_shifts(16, 16, 2)
    results = [
        pair_loss(noise, shifts),
        kl_loss(noise),
        kl_gradient(noise),
        patch_kl_loss(noise, target),
        PatchKLGradient(target, 0.055)(noise),
        EVERYTHING.regularize(noise, target, draw_uniform(EVERYTHING, 16, 16, 2)),
    ]
    for result in results:
        assert result.dtype == torch.float32
        assert bool(result.isfinite().all())


def test_half_precision_is_computed_as_float32() -> None:
    noise, target = (gaussian(1, 4, 16, 16, seed=seed, dtype=torch.float16) for seed in (0, 1))
    uniform = draw_uniform(EVERYTHING, 16, 16, 1)
    expected = EVERYTHING.regularize(noise.float(), target.float(), uniform)
    assert torch.equal(EVERYTHING.regularize(noise, target, uniform), expected)
