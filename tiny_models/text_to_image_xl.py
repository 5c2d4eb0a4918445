"""Trains the miniature SDXL on the latents of scenes and their sizes: UNet and both text encoders together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tiny_models.text_to_image import UNET, LatentDiffusionModule, text_config

TIME_EMBED_DIM = 16
"""Features of each of the six time ids."""
TEXT_DIM = 48
"""Features per token of each text encoder. Both together have the width of the UNet's cross-attention."""


class TextToImageXLModule(LatentDiffusionModule):
    """Trains a small SDXL: two text encoders, pooled embeddings and time ids.

    Args:
        vae: Folder of the autoencoder that encoded the latents.
        output: Folder for the trained pipeline, in diffusers layout.
        warm_start: Folder of a pipeline whose UNet, of the shape of `UNET`, gives the initial weights. Pooled
            embeddings and time ids have no effect at first. None starts from random weights.
        learning_rate: Peak of the one-cycle schedule.
        prompt_dropout: Share of prompts that are dropped. Half of those get embeddings of zeros, as in SDXL's pipeline
            without a negative prompt. The other half get the empty prompt.
        prompt_length: Longest prompt in tokens, start and end included.
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

    def conditioning(self, random_p: torch.Tensor, tokens: torch.Tensor, *sizes: torch.Tensor) -> dict[str, Any]:
        """Returns embeddings and pooled embeddings of the prompts, and the time ids. `sizes` is (time ids [B, 6],)."""
        tokens = torch.where(random_p < self.prompt_dropout, self.empty_prompt, tokens)
        kept = random_p >= self.prompt_dropout / 2
        first = self.text_encoder(tokens, output_hidden_states=True)
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        embeds = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return {
            "encoder_hidden_states": embeds * kept[:, None],
            "added_cond_kwargs": {"text_embeds": second.text_embeds * kept, "time_ids": sizes[0]},
        }

    def pipeline(self, vae: AutoencoderKL) -> StableDiffusionXLPipeline:
        """Returns a `StableDiffusionXLPipeline`."""
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
