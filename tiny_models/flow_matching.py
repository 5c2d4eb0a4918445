"""Trains the miniature Stable Diffusion 3 on the latents of scenes: a transformer that predicts velocities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset, TensorDataset
from transformers import CLIPTextModelWithProjection

from tiny_models.latents import LatentsDataModule
from tiny_models.optimizer import trapezoid
from tiny_models.repeated_token import RepeatedToken
from tiny_models.scenes import Scene
from tiny_models.text_to_image import LatentDiffusionModule

TRANSFORMER = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 6,
    "attention_head_dim": 48,
    "num_attention_heads": 4,
    "joint_attention_dim": 96,
    "caption_projection_dim": 192,
    "pooled_projection_dim": 96,
    "pos_embed_max_size": 32,
    "qk_norm": "rms_norm",
}
"""Configuration of the transformer. Its text features are those of both text encoders side by side."""
SHIFT = 2.0
"""Shift of the sampler: more of its steps are at high noise levels."""
ABSENT_TOKENS = 256
"""Tokens of zeros that `StableDiffusion3Pipeline` puts where T5 is absent."""
SHIFT_FACTOR = -0.0101
"""Mean of the latents of scenes before scaling."""
SCALING_FACTOR = 0.748
"""1 / standard deviation of the latents of scenes."""


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """Loads an autoencoder and gives it the shift and the scale with which latents have mean 0 and variance 1."""
    vae = AutoencoderKL.from_pretrained(folder).float()
    vae.register_to_config(shift_factor=SHIFT_FACTOR, scaling_factor=SCALING_FACTOR)
    return vae


class ShiftedLatentsDataModule(LatentsDataModule):
    """Batches of (latents, prompt tokens). Latents are shifted and scaled, and kept in a file for the next run.

    Args:
        vae: Folder of the autoencoder.
        cache: Folder for the latents.
        scenes: Number of training scenes.
        validation_scenes: Number of validation scenes.
        batch_size: Latents per training step.
        prompt_length: Longest prompt in tokens, start and end included.
    """

    def __init__(
        self,
        vae: Path,
        cache: Path,
        scenes: int,
        validation_scenes: int = 256,
        batch_size: int = 64,
        prompt_length: int = 16,
    ) -> None:
        super().__init__(vae, scenes, validation_scenes, batch_size, prompt_length)
        self.cache = cache

    def autoencoder(self) -> AutoencoderKL:
        """Returns the autoencoder with a shift."""
        return load_autoencoder(self.vae)

    def encode(self, scenes: Sequence[Scene]) -> Dataset[tuple[torch.Tensor, ...]]:
        """Returns latents and tokens of the scenes. Encodes scenes that are not in the cache."""
        path = self.cache / f"{len(scenes)}-scenes.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".tmp")
            save_file({"latents": self.latents(scene.draw() for scene in scenes)}, unfinished)
            unfinished.replace(path)
        return TensorDataset(load_file(path)["latents"], self.tokens(scenes))


class StableDiffusion3Module(LatentDiffusionModule):
    """Trains v = noise − z_0 at z_σ = (1 − σ) z_0 + σ noise, with σ the logistic function of a normal variable.

    Args:
        vae: Folder of the autoencoder that encoded the latents.
        text_encoders: Folder of a trained SDXL pipeline, whose text encoders are used as they are.
        output: Folder for the trained pipeline, in diffusers layout.
        learning_rate: Highest of the run.
        prompt_dropout: Share of prompts that are dropped.
        prompt_length: Longest prompt in tokens, start and end included.
    """

    def __init__(
        self,
        vae: Path,
        text_encoders: Path,
        output: Path,
        learning_rate: float = 1e-3,
        prompt_dropout: float = 0.1,
        prompt_length: int = 16,
    ) -> None:
        super().__init__(vae, output, learning_rate, prompt_dropout, prompt_length)
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
        self.text_encoder, self.text_encoder_2 = (
            CLIPTextModelWithProjection.from_pretrained(text_encoders, subfolder=name).float().requires_grad_(False)
            for name in ("text_encoder", "text_encoder_2")
        )
        torch.nn.init.eye_(self.text_encoder.text_projection.weight)  # SDXL's first text encoder has no projection
        self.transformer = SD3Transformer2DModel(**TRANSFORMER)

    @torch.no_grad()
    def conditioning(self, random_p: torch.Tensor, tokens: torch.Tensor, *sizes: torch.Tensor) -> dict[str, Any]:
        """Returns embeddings and pooled embeddings as the pipeline makes them, with one token for those of T5."""
        tokens = torch.where(random_p < self.prompt_dropout, self.empty_prompt, tokens)
        outputs = [each(tokens, output_hidden_states=True) for each in (self.text_encoder, self.text_encoder_2)]
        embeds = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return {
            "encoder_hidden_states": F.pad(embeds, (0, 0, 0, 1)),
            "pooled_projections": torch.cat([output.text_embeds for output in outputs], dim=-1),
        }

    def loss(
        self, latents: torch.Tensor, conditioning: dict[str, Any], generator: torch.Generator | None
    ) -> torch.Tensor:
        """Returns the mean squared error of the predicted velocity."""
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        sigmas = torch.randn(len(latents), 1, 1, 1, generator=generator, device=latents.device).sigmoid()
        levels = self.scheduler.config.num_train_timesteps
        with RepeatedToken(ABSENT_TOKENS):
            velocity = self.transformer(
                hidden_states=(1 - sigmas) * latents + sigmas * noise,
                timestep=levels * sigmas.flatten(),
                **conditioning,
            ).sample
        return F.mse_loss(velocity.float(), noise - latents)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW, whose learning rate falls at the end."""
        return trapezoid(self, self.learning_rate)

    def pipeline(self, vae: AutoencoderKL) -> StableDiffusion3Pipeline:
        """Returns a `StableDiffusion3Pipeline` without T5."""
        vae.register_to_config(shift_factor=SHIFT_FACTOR, scaling_factor=SCALING_FACTOR)
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=self.scheduler,
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )
