"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import nn

from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.models.unet_inputs import check_unet_inputs


class StableDiffusion(DiffusionModel):
    """Stable Diffusion 1.x and 2.x; see `DiffusionModel`.

    Example:
        >>> import renoise
        >>> isinstance(renoise.load("data/models/tiny-sd").model, renoise.StableDiffusion)
        True
    """

    pipeline_class = "StableDiffusionPipeline"
    addition_embed_type: ClassVar[str | None] = None
    """The UNet's `addition_embed_type` whose inputs `network_inputs` returns."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        check_unet_inputs(pipeline, self.addition_embed_type)
        super().__init__(pipeline)
        self.network = pipeline.unet
        self.vae: AutoencoderKL = pipeline.vae
        self.text_encoder: nn.Module = pipeline.text_encoder

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the UNet was distilled with guidance, as those of latent consistency models are."""
        return self.pipeline.unet.config.time_cond_proj_dim is not None

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return int(self.pipeline.unet.config.in_channels)

    @property
    def size_multiple(self) -> int:
        """Pixels of an image for each position of the latents."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def default_resolution(self) -> int:
        """The UNet's sample size in pixels, the longer side of one that is not square."""
        size = self.pipeline.unet.config.sample_size
        return int(max(size) if isinstance(size, list | tuple) else size) * self.size_multiple

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Splits at the tokenizer's greatest length; see `DiffusionModel.split_prompt`."""
        tokenizer = self.pipeline.tokenizer
        max_tokens = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
        end = len(prompt)
        while True:
            spans = self._spans(prompt[:end])
            if len(spans) <= max_tokens:
                return prompt[:end], prompt[end:]
            end = min(spans[max_tokens][0], end - 1)  # checked again: a part of a word can take more tokens than it did

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Returns the characters of every token; see `DiffusionModel.token_spans`."""
        return self._spans(self.split_prompt(prompt)[0])

    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts by the pipeline's own `encode_prompt`; see `DiffusionModel.encode_prompts`."""
        guided = guidance_scale != 1 and not self.takes_guidance_scale
        embeds, negative, *pooled = self.pipeline.encode_prompt(
            prompt=self._shortened(prompts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            negative_prompt=self._shortened(negative_prompts) if negative_prompts else None,
        )
        pooled_embeds, negative_pooled = pooled or (None, None)
        return Conditioning(
            prompt_embeds=embeds,
            negative_prompt_embeds=negative if guided else None,
            guidance_scale=guidance_scale,
            pooled_prompt_embeds=pooled_embeds,
            negative_pooled_prompt_embeds=negative_pooled if guided else None,
            time_ids=None if time_ids is None else time_ids.to(embeds.device),
        )

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images; see `DiffusionModel.encode_images`."""
        with self.vae_precision():
            pixels = (2 * images - 1).to(self.vae.dtype)
            latents: torch.Tensor = self.vae.encode(pixels).latent_dist.mean
        return latents.to(self.state_dtype) * self._scaling_factor

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes latents; see `DiffusionModel.decode_latents`."""
        with self.vae_precision():
            scaled = (latents / self._scaling_factor).to(self.vae.dtype)
            images: torch.Tensor = self.vae.decode(scaled).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the prompt embeddings of all branches, and their guidance scales where the network takes them."""
        embeds = torch.cat([branch.prompt_embeds for branch in branches]).to(self.dtype)
        inputs = {"encoder_hidden_states": embeds}
        if self.takes_guidance_scale:
            weights = [branch.guidance_scale - 1 for branch in branches for _ in branch.prompt_embeds]
            size = self.pipeline.unet.config.time_cond_proj_dim
            inputs["timestep_cond"] = self.pipeline.get_guidance_scale_embedding(torch.tensor(weights), size).to(embeds)
        return inputs

    def vae_precision(self) -> AbstractContextManager[object]:
        """Wraps every use of the autoencoder. A family whose autoencoder overflows in float16 upcasts it here."""
        return nullcontext()

    @property
    def _scaling_factor(self) -> float:
        return float(self.pipeline.vae.config.scaling_factor)

    def _shortened(self, prompts: Sequence[str]) -> list[str]:
        return [self.split_prompt(prompt)[0] for prompt in prompts]

    def _spans(self, text: str) -> list[tuple[int, int]]:
        tokenized = self.pipeline.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        return [(int(start), int(end)) for start, end in tokenized.offset_mapping]
