from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from renoise.metrics import functional as metrics


def pictures(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 32, 32, generator=generator)
    return images, (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def test_psnr_of_each_image_is_the_closed_form() -> None:
    images, others = pictures()
    expected = -10 * (images - others).square().mean(dim=(1, 2, 3)).log10()
    torch.testing.assert_close(metrics.psnr(others, images), expected)


def test_psnr_of_equal_images_is_infinite() -> None:
    images, _ = pictures()
    assert metrics.psnr(images, images).isinf().all()


@pytest.mark.parametrize("batch", [1, 3])
def test_ssim_of_each_image_is_scikit_images(batch: int) -> None:
    images, others = pictures(batch)
    expected = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images, others, strict=True)
    ]
    assert metrics.ssim(others, images).tolist() == pytest.approx(expected, abs=5e-3)


def test_mean_squared_error_is_taken_image_by_image() -> None:
    latents = torch.zeros(2, 4, 2, 2)
    targets = torch.stack([torch.ones(4, 2, 2), 3 * torch.ones(4, 2, 2)])
    assert metrics.mean_squared_error(latents, targets).tolist() == [1.0, 9.0]


def half_masks(batch: int = 3) -> torch.Tensor:
    """The left half of every image, and half of every pixel of the column beside it."""
    mask = torch.zeros(batch, 32, 32)
    mask[:, :, :16], mask[:, :, 16] = 1, 0.5
    return mask


def test_masked_psnr_under_a_full_mask_is_psnr() -> None:
    images, others = pictures()
    torch.testing.assert_close(metrics.masked_psnr(others, images, torch.ones(3, 32, 32)), metrics.psnr(others, images))


def test_masked_psnr_weighs_pixels_and_ignores_those_outside() -> None:
    images, mask = torch.zeros(3, 3, 32, 32), half_masks()
    others = images.clone()
    others[:, :, :, 16] = 0.2  # half of it counts, so of 16.5 columns 0.5 hold an error of 0.04
    others[:, :, :, 17:] = torch.rand(3, 3, 32, 15)
    expected = -10 * torch.tensor(0.5 * 0.04 / 16.5).log10()
    torch.testing.assert_close(metrics.masked_psnr(others, images, mask), expected.expand(3))


@pytest.mark.parametrize("batch", [1, 3])
def test_masked_ssim_under_a_full_mask_is_ssim(batch: int) -> None:
    images, others = pictures(batch)
    found = metrics.masked_ssim(others, images, torch.ones(batch, 32, 32))
    torch.testing.assert_close(found, metrics.ssim(others, images))


@pytest.mark.parametrize("batch", [1, 3])
def test_masked_ssim_ignores_what_lies_outside_even_where_windows_reach_across(batch: int) -> None:
    images, others = pictures(batch)
    mask = (half_masks(batch) == 1).float()
    changed = others.clone()
    changed[:, :, :, 16:] = 0
    found = metrics.masked_ssim(others, images, mask)
    torch.testing.assert_close(metrics.masked_ssim(changed, images, mask), found)
    assert found.shape == (batch,)
    assert (found < 1).all()
    changed[:, :, :, :16] = images[:, :, :, :16]
    torch.testing.assert_close(metrics.masked_ssim(changed, images, mask), torch.ones(batch))


def test_structure_is_what_is_alike_whatever_it_looks_like() -> None:
    generator = torch.Generator().manual_seed(0)
    features, others = torch.randn(2, 2, 8, 4, 4, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
    rotated = torch.einsum("dc,bchw->bdhw", rotation, features)
    same = [metrics.structure_distance(features, each) for each in (features, 3 * features, rotated)]
    torch.testing.assert_close(torch.stack(same), torch.zeros(3, 2), atol=1e-10, rtol=0)
    assert (metrics.structure_distance(features, others) > 0.01).all()


def test_structure_distance_of_two_positions_is_the_closed_form() -> None:
    """Alike in one image, at right angles in the other: of four cosines two differ, by 1."""
    alike = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])
    apart = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert metrics.structure_distance(alike, apart).tolist() == [0.5]
