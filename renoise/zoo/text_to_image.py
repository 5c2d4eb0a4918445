"""Trains the miniature Stable Diffusion: UNet and text encoder together, on the latents of scenes."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from transformers import CLIPTextConfig, CLIPTextModel

from renoise.zoo.optimizer import one_cycle
from renoise.zoo.vocabulary import build_tokenizer


class TextToImageModule(L.LightningModule):
    """Stable Diffusion in small: epsilon prediction under SD's noise schedule, prompts dropped for guidance.

    Args:
        vae: folder of the autoencoder whose latents the batches hold.
        output: folder that receives the pipeline in diffusers layout when the fit ends.
        learning_rate: peak of the one-cycle schedule.
        prompt_dropout: share of prompts replaced by the empty one.
        prompt_length: longest prompt in tokens, start and end included.
    """

    def __init__(
        self,
        vae: Path,
        output: Path,
        learning_rate: float = 1.2e-3,
        prompt_dropout: float = 0.1,
        prompt_length: int = 32,
    ) -> None:
        super().__init__()
        self.vae, self.output = vae, output
        self.learning_rate, self.prompt_dropout = learning_rate, prompt_dropout
        self.tokenizer = build_tokenizer(prompt_length)
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=96,
                intermediate_size=192,
                num_hidden_layers=2,
                num_attention_heads=4,
                projection_dim=96,
                max_position_embeddings=prompt_length,
                bos_token_id=self.tokenizer.bos_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(64, 96, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=96,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        self.scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        empty = self.tokenizer("", padding="max_length", return_tensors="pt").input_ids
        self.empty_prompt: torch.Tensor
        self.register_buffer("empty_prompt", empty)

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Mean squared error of the predicted noise."""
        latents, tokens = batch
        dropped = torch.rand(len(tokens), 1, device=tokens.device) < self.prompt_dropout
        loss = self._loss(latents, torch.where(dropped, self.empty_prompt, tokens), None)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """The same on unseen scenes, with the same noise every time."""
        generator = torch.Generator(self.device).manual_seed(batch_index)
        latents, tokens = batch
        self.log("validation/loss", self._loss(latents, tokens, generator), prog_bar=True)

    def _loss(self, latents: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        levels = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(levels, (len(latents),), generator=generator, device=latents.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        prompt_embeds = self.text_encoder(tokens).last_hidden_state
        prediction = self.unet(noisy, timesteps, prompt_embeds).sample
        return F.mse_loss(prediction.float(), noise)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW under a one-cycle schedule over the whole run."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Writes the whole pipeline in half precision."""
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL.from_pretrained(self.vae),
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.to("cpu", torch.float16).save_pretrained(self.output)
