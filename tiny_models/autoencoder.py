"""Trains the miniature autoencoder: 64x64 pixels to 4x16x16 latents and back."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from diffusers import AutoencoderKL
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torchmetrics.image import PeakSignalNoiseRatio

from tiny_models.data import to_model_range
from tiny_models.optimizer import one_cycle
from tiny_models.scenes import SIDE


class AutoencoderModule(L.LightningModule):
    """Trains an AutoencoderKL on L1 + mse_weight * L2 + kl_weight * KL per pixel.

    Args:
        output: Folder for the trained autoencoder, in diffusers layout.
        block_out_channels: Channels of each resolution. Every resolution after the first halves the side.
        learning_rate: Peak of the one-cycle schedule.
        mse_weight: Weight of the squared error, which PSNR measures.
        kl_weight: Weight of the posterior's KL divergence from N(0, 1).
    """

    def __init__(
        self,
        output: Path,
        block_out_channels: tuple[int, ...] = (32, 64, 64),
        learning_rate: float = 1.5e-3,
        mse_weight: float = 4.0,
        kl_weight: float = 0.005,
    ) -> None:
        super().__init__()
        self.output = output
        self.learning_rate = learning_rate
        self.mse_weight = mse_weight
        self.kl_weight = kl_weight
        levels = len(block_out_channels)
        self.vae = AutoencoderKL(
            block_out_channels=block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1,
            norm_num_groups=16,
            latent_channels=4,
            sample_size=SIDE,
            mid_block_add_attention=False,
        )
        self.psnr = PeakSignalNoiseRatio(data_range=2.0, reduction="elementwise_mean", dim=(1, 2, 3))

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the loss of images that are decoded from a sample of the posterior."""
        images = to_model_range(batch[0])
        posterior = self.vae.encode(images).latent_dist
        error = self.vae.decode(posterior.sample()).sample.float() - images
        kl = posterior.kl().mean() / images[0, 0].numel()
        loss: torch.Tensor = error.abs().mean() + self.mse_weight * error.square().mean() + self.kl_weight * kl
        self.log_dict({"train/loss": loss, "train/mse": error.square().mean(), "train/kl": kl}, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Logs the PSNR of images that are decoded from the posterior's mean."""
        images = to_model_range(batch[0])
        latents = self.vae.encode(images).latent_dist.mean
        self.psnr(self.vae.decode(latents).sample.float().clamp(-1, 1), images)
        self.log("validation/psnr", self.psnr, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a one-cycle learning rate."""
        return one_cycle(self, self.learning_rate)

    @torch.no_grad()
    def on_fit_end(self) -> None:
        """Saves the autoencoder in half precision, with the scaling factor that gives its latents variance 1."""
        batches = self.trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        latents = [self.vae.encode(to_model_range(batch[0]).to(self.device)).latent_dist.mean for batch in batches]
        self.vae.register_to_config(scaling_factor=1 / torch.cat(latents).std().item())
        self.vae.to(torch.float16).save_pretrained(self.output)
