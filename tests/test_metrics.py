from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from renoise import metrics


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
