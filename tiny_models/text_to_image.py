"""Trains the miniature Stable Diffusion on the latents of scenes: UNet and text encoder together."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tiny_models.optimizer import one_cycle
from tiny_models.vocabulary import build_tokenizer

UNET = {
    "sample_size": 16,
    "block_out_channels": (64, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 96,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
"""Configuration of all shipped UNets."""


def text_config(tokenizer: CLIPTokenizer, hidden_size: int) -> CLIPTextConfig:
    """Returns the configuration of a two-layer CLIP text encoder for prompts of the tokenizer's length."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=hidden_size,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class LatentDiffusionModule(L.LightningModule):
    """Trains ε-prediction with SD's noise schedule. Some prompts are dropped, for classifier-free guidance.

    A subclass is one family: it adds the text encoders and the UNet.

    Args:
        vae: Folder of the autoencoder that encoded the latents.
        output: Folder for the trained pipeline, in diffusers layout.
        learning_rate: Peak of the one-cycle schedule.
        prompt_dropout: Share of prompts that are dropped.
        prompt_length: Longest prompt in tokens, start and end included.
    """

    unet: UNet2DConditionModel
    empty_prompt: torch.Tensor
    scheduler: SchedulerMixin

    def __init__(
        self,
        vae: Path,
        output: Path,
        learning_rate: float = 1.2e-3,
        prompt_dropout: float = 0.1,
        prompt_length: int = 32,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.output = output
        self.learning_rate = learning_rate
        self.prompt_dropout = prompt_dropout
        self.tokenizer = build_tokenizer(prompt_length)
        self.scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        self.register_buffer("empty_prompt", self.tokenizer("", padding="max_length", return_tensors="pt").input_ids)

    @abstractmethod
    def conditioning(self, random_p: torch.Tensor, tokens: torch.Tensor, *sizes: torch.Tensor) -> dict[str, Any]:
        """Returns the UNet's keyword arguments for B prompts.

        Args:
            random_p: A number in [0, 1] for each prompt, float32 [B, 1]. Below `prompt_dropout` the prompt is dropped.
            tokens: Of the prompts, int64 [B, length].
            sizes: The rest of the batch, for families that are conditioned on image sizes.
        """

    @abstractmethod
    def pipeline(self, vae: AutoencoderKL) -> DiffusionPipeline:
        """Returns the pipeline with the trained networks."""

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the loss of a batch, some of whose prompts are dropped."""
        latents, *rest = batch
        loss = self.loss(latents, self.conditioning(torch.rand(len(latents), 1, device=self.device), *rest), None)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Logs the same on validation scenes, without dropped prompts and with the same noise every time."""
        generator = torch.Generator(self.device).manual_seed(batch_index)
        latents, *rest = batch
        conditioning = self.conditioning(torch.ones(len(latents), 1, device=self.device), *rest)
        self.log("validation/loss", self.loss(latents, conditioning, generator), prog_bar=True)

    def loss(
        self, latents: torch.Tensor, conditioning: dict[str, Any], generator: torch.Generator | None
    ) -> torch.Tensor:
        """Returns the mean squared error of the prediction at random noise levels.

        Args:
            latents: z_0, float32 [B, C, h, w].
            conditioning: Of the same prompts, see `conditioning`.
            generator: Draws the noise and its levels. None takes the global one.
        """
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        levels = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(levels, (len(latents),), generator=generator, device=latents.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        return F.mse_loss(self.unet(noisy, timesteps, **conditioning).sample.float(), noise)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a one-cycle learning rate."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Saves the pipeline in half precision."""
        self.pipeline(AutoencoderKL.from_pretrained(self.vae)).to("cpu", torch.float16).save_pretrained(self.output)


class TextToImageModule(LatentDiffusionModule):
    """Trains a small Stable Diffusion 1.x; see `LatentDiffusionModule` for the arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text_encoder = CLIPTextModel(text_config(self.tokenizer, hidden_size=96))
        self.unet = UNet2DConditionModel(**UNET)

    def conditioning(self, random_p: torch.Tensor, tokens: torch.Tensor, *sizes: torch.Tensor) -> dict[str, Any]:
        """Returns the last hidden states of the prompts. A dropped prompt is the empty one."""
        tokens = torch.where(random_p < self.prompt_dropout, self.empty_prompt, tokens)
        return {"encoder_hidden_states": self.text_encoder(tokens).last_hidden_state}

    def pipeline(self, vae: AutoencoderKL) -> StableDiffusionPipeline:
        """Returns a `StableDiffusionPipeline`."""
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
