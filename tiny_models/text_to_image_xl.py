"""Trains the miniature SDXL: UNet and both text encoders together, on the latents of scenes and their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tiny_models.text_to_image import UNET, LatentDiffusionModule, text_config

TIME_EMBED_DIM = 16
"""Features of each of the six numbers that tell the UNet an image's sizes."""
TEXT_DIM = 48
"""Features per token of each text encoder; side by side they fill the UNet's cross-attention."""


class TextToImageXLModule(LatentDiffusionModule):
    """SDXL in small: two text encoders' penultimate layers, pooled embeddings, time ids.

    Args:
        vae: folder of the autoencoder whose latents the batches hold.
        output: folder that receives the pipeline in diffusers layout when the fit ends.
        warm_start: pipeline whose UNet the training begins with, its shape being that of `UNET`; the part that reads
            pooled embeddings and time ids begins without a say. None begins with random weights.
        learning_rate: peak of the one-cycle schedule.
        prompt_dropout: share of prompts left out: half of them with all embeddings zero, as SDXL's pipeline has it
            where no negative prompt is given, half as the empty prompt.
        prompt_length: longest prompt in tokens, start and end included.
    """

    def __init__(
        self,
        vae: Path,
        output: Path,
        warm_start: Path | None = None,
        learning_rate: float = 1.2e-3,
        prompt_dropout: float = 0.1,
        prompt_length: int = 32,
    ) -> None:
        super().__init__(vae, output, learning_rate, prompt_dropout, prompt_length)
        self.text_encoder = CLIPTextModel(text_config(self.tokenizer, TEXT_DIM))
        self.text_encoder_2 = CLIPTextModelWithProjection(text_config(self.tokenizer, TEXT_DIM))
        self.unet = UNet2DConditionModel(
            **UNET,
            addition_embed_type="text_time",
            addition_time_embed_dim=TIME_EMBED_DIM,
            projection_class_embeddings_input_dim=TEXT_DIM + 6 * TIME_EMBED_DIM,
        )
        if warm_start is not None:
            weights = UNet2DConditionModel.from_pretrained(warm_start, subfolder="unet").state_dict()
            self.unet.load_state_dict({**self.unet.state_dict(), **weights})
            torch.nn.init.zeros_(self.unet.add_embedding.linear_2.weight)
            torch.nn.init.zeros_(self.unet.add_embedding.linear_2.bias)

    def conditioning(self, lots: torch.Tensor, tokens: torch.Tensor, *sizes: torch.Tensor) -> dict[str, Any]:
        """Hidden states and pooled embeddings of the prompts, and the time ids, float32 [B, 6], in `sizes`."""
        tokens = torch.where(lots < self.prompt_dropout, self.empty_prompt, tokens)
        kept = lots >= self.prompt_dropout / 2
        first = self.text_encoder(tokens, output_hidden_states=True)
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        embeds = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return {
            "encoder_hidden_states": embeds * kept[:, None],
            "added_cond_kwargs": {"text_embeds": second.text_embeds * kept, "time_ids": sizes[0]},
        }

    def pipeline(self, vae: AutoencoderKL) -> StableDiffusionXLPipeline:
        """In the layout of `StableDiffusionXLPipeline`."""
        return StableDiffusionXLPipeline(
            vae=vae,
            text_encoder=self.text_encoder,
            text_encoder_2=self.text_encoder_2,
            tokenizer=self.tokenizer,
            tokenizer_2=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )
