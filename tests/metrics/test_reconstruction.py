from __future__ import annotations

import torch

from renoise.metrics import MSE, PSNR, PSNRVAE, SSIM, Comparison, LatentMSE, functional

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, RECONSTRUCTIONS, DECODED = torch.rand(3, 2, 3, 32, 32, generator=GENERATOR)
LATENTS, REBUILT = torch.randn(2, 2, 4, 8, 8, generator=GENERATOR)
COMPARISON = Comparison(IMAGES, RECONSTRUCTIONS, LATENTS, REBUILT, DECODED)


def test_psnr_and_ssim_compare_reconstructions_with_the_images() -> None:
    torch.testing.assert_close(PSNR()(COMPARISON), functional.psnr(RECONSTRUCTIONS, IMAGES))
    torch.testing.assert_close(SSIM()(COMPARISON), functional.ssim(RECONSTRUCTIONS, IMAGES))


def test_psnr_vae_compares_the_autoencoders_round_trip_with_the_images() -> None:
    torch.testing.assert_close(PSNRVAE()(COMPARISON), functional.psnr(DECODED, IMAGES))


def test_latent_mse_compares_latents_before_and_after() -> None:
    torch.testing.assert_close(LatentMSE()(COMPARISON), functional.mean_squared_error(REBUILT, LATENTS))


def test_mse_compares_reconstructions_with_the_images() -> None:
    torch.testing.assert_close(MSE()(COMPARISON), (RECONSTRUCTIONS - IMAGES).square().mean(dim=(1, 2, 3)))
