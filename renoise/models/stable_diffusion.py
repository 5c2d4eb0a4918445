"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import nn
from transformers import PreTrainedTokenizerBase

from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning, effective_guidance_scale
from renoise.models.prompts import WithoutExpansion, expand, split
from renoise.models.unet_inputs import check_unet_inputs


class StableDiffusion(DiffusionModel):
    """Stable Diffusion 1.x and 2.x; see `DiffusionModel`.

    Example:
        >>> import renoise
        >>> isinstance(renoise.load("data/models/tiny-sd").model, renoise.StableDiffusion)
        True
    """

    pipeline_class = "StableDiffusionPipeline"
    checked_with = "the shipped tiny-sd, trained"
    addition_embed_type: ClassVar[str | None] = None
    """The UNet's `addition_embed_type` whose inputs `network_inputs` returns."""

    network_part: ClassVar[str] = "unet"
    """Name of the pipeline's network."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.check_parts(pipeline)
        super().__init__(pipeline)
        self.network = getattr(pipeline, self.network_part)
        self.vae: AutoencoderKL = pipeline.vae
        self.text_encoder: nn.Module = pipeline.text_encoder

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the UNet was distilled with guidance, as those of latent consistency models are."""
        return self._config.time_cond_proj_dim is not None

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return int(self._config.in_channels)

    @property
    def size_multiple(self) -> int:
        """Pixels of an image for each position of the latents."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def default_resolution(self) -> int:
        """The network's sample size in pixels, the longer side of one that is not square."""
        size = self._config.sample_size
        return int(max(size) if isinstance(size, list | tuple) else size) * int(self.pipeline.vae_scale_factor)

    @property
    def tokenizers(self) -> dict[str, PreTrainedTokenizerBase]:
        """The tokenizer of each text encoder, by what the pipeline's names for it end with."""
        return {"": self.pipeline.tokenizer}

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Splits at the greatest length of the tokenizers; see `DiffusionModel.split_prompt`."""
        return split(self.tokenizers.values(), prompt)

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Returns the characters of every token; see `DiffusionModel.token_spans`."""
        return expand(self.pipeline.tokenizer, self.split_prompt(prompt)[0])[1]

    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts by the pipeline's own `encode_prompt`; see `DiffusionModel.encode_prompts`."""
        guidance_scale = effective_guidance_scale(guidance_scale)
        guided = guidance_scale != 1 and not self.takes_guidance_scale
        embeds, negative, *pooled = WithoutExpansion(self.pipeline).encode_prompt(
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            **self._texts("prompt", prompts),
            **(self._texts("negative_prompt", negative_prompts) if negative_prompts else {}),
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
        return (latents.to(self.state_dtype) - self._shift_factor) * self._scaling_factor

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes latents; see `DiffusionModel.decode_latents`."""
        with self.vae_precision():
            scaled = (latents / self._scaling_factor + self._shift_factor).to(self.vae.dtype)
            images: torch.Tensor = self.vae.decode(scaled).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the prompt embeddings of all branches, and their guidance scales where the network takes them."""
        embeds = torch.cat([branch.prompt_embeds for branch in branches]).to(self.dtype)
        inputs = {"encoder_hidden_states": embeds}
        if self.takes_guidance_scale:
            weights = [branch.guidance_scale - 1 for branch in branches for _ in branch.prompt_embeds]
            size = self._config.time_cond_proj_dim
            inputs["timestep_cond"] = self.pipeline.get_guidance_scale_embedding(
                torch.tensor(weights, dtype=torch.float32), size
            ).to(embeds)
        return inputs

    def check_parts(self, pipeline: DiffusionPipeline) -> None:
        """Raises ValueError where the parts of a pipeline do not fit together, or the network needs other inputs."""
        check_unet_inputs(pipeline, self.addition_embed_type)

    def vae_precision(self) -> AbstractContextManager[object]:
        """Wraps every use of the autoencoder. A family whose autoencoder overflows in float16 upcasts it here."""
        return nullcontext()

    @property
    def _config(self) -> Any:
        return getattr(self.pipeline, self.network_part).config

    @property
    def _scaling_factor(self) -> float:
        return float(self.pipeline.vae.config.scaling_factor)

    @property
    def _shift_factor(self) -> float:
        return float(self.pipeline.vae.config.get("shift_factor") or 0)

    def _texts(self, argument: str, prompts: Sequence[str]) -> dict[str, list[str] | None]:
        """Returns an argument of `encode_prompt` for each tokenizer: the prompts, cut and written out."""
        kept = [self.split_prompt(prompt)[0] for prompt in prompts]
        return {
            argument + suffix: [expand(tokenizer, prompt)[0] for prompt in kept]
            for suffix, tokenizer in self.tokenizers.items()
        }
