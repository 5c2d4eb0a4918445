from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from renoise.metrics import functional


def image_pairs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 32, 32, generator=generator)
    return images, (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def test_psnr_of_each_image_is_the_closed_form() -> None:
    images, others = image_pairs()
    expected = -10 * (images - others).square().mean(dim=(1, 2, 3)).log10()
    torch.testing.assert_close(functional.psnr(others, images), expected)


def test_psnr_of_equal_images_is_infinite() -> None:
    images, _ = image_pairs()
    assert functional.psnr(images, images).isinf().all()


@pytest.mark.parametrize("batch", [1, 3])
def test_ssim_of_each_image_is_that_of_scikit_image(batch: int) -> None:
    images, others = image_pairs(batch)
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
    assert functional.ssim(others, images).tolist() == pytest.approx(expected, abs=5e-3)


def test_mean_squared_error_is_taken_image_by_image() -> None:
    latents = torch.zeros(2, 4, 2, 2)
    targets = torch.stack([torch.ones(4, 2, 2), 3 * torch.ones(4, 2, 2)])
    assert functional.mean_squared_error(latents, targets).tolist() == [1.0, 9.0]


def half_masks(batch: int = 3) -> torch.Tensor:
    """The left half of every image has weight 1, the next column 0.5."""
    mask = torch.zeros(batch, 32, 32)
    mask[:, :, :16], mask[:, :, 16] = 1, 0.5
    return mask


def test_masked_psnr_under_a_full_mask_is_psnr() -> None:
    images, others = image_pairs()
    torch.testing.assert_close(
        functional.masked_psnr(others, images, torch.ones(3, 32, 32)), functional.psnr(others, images)
    )


def test_masked_psnr_weights_pixels_and_ignores_those_outside() -> None:
    images, mask = torch.zeros(3, 3, 32, 32), half_masks()
    others = images.clone()
    others[:, :, :, 16] = 0.2  # half of it counts, so of 16.5 columns 0.5 hold an error of 0.04
    others[:, :, :, 17:] = torch.rand(3, 3, 32, 15)
    expected = -10 * torch.tensor(0.5 * 0.04 / 16.5).log10()
    torch.testing.assert_close(functional.masked_psnr(others, images, mask), expected.expand(3))


@pytest.mark.parametrize("batch", [1, 3])
def test_masked_ssim_under_a_full_mask_is_ssim(batch: int) -> None:
    images, others = image_pairs(batch)
    found = functional.masked_ssim(others, images, torch.ones(batch, 32, 32))
    torch.testing.assert_close(found, functional.ssim(others, images))


@pytest.mark.parametrize("batch", [1, 3])
def test_masked_ssim_ignores_pixels_outside_even_where_windows_reach_across(batch: int) -> None:
    images, others = image_pairs(batch)
    mask = (half_masks(batch) == 1).float()
    changed = others.clone()
    changed[:, :, :, 16:] = 0
    found = functional.masked_ssim(others, images, mask)
    torch.testing.assert_close(functional.masked_ssim(changed, images, mask), found)
    assert found.shape == (batch,)
    assert (found < 1).all()
    changed[:, :, :, :16] = images[:, :, :, :16]
    torch.testing.assert_close(functional.masked_ssim(changed, images, mask), torch.ones(batch))


def test_structure_distance_ignores_the_scale_and_rotation_of_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features, others = torch.randn(2, 2, 8, 4, 4, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
    rotated = torch.einsum("dc,bchw->bdhw", rotation, features)
    same = [functional.structure_distance(features, each) for each in (features, 3 * features, rotated)]
    torch.testing.assert_close(torch.stack(same), torch.zeros(3, 2), atol=1e-10, rtol=0)
    assert (functional.structure_distance(features, others) > 0.01).all()


def test_structure_distance_of_two_positions_is_the_closed_form() -> None:
    """Same direction in one image, right angles in the other: two of four cosines differ by 1."""
    alike = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])
    apart = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert functional.structure_distance(alike, apart).tolist() == [0.5]
