"""FLUX.1 dev and schnell: a transformer trained by flow matching, CLIP's pooled embedding and T5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import nn

from renoise.models.conditioning import Conditioning, effective_guidance_scale
from renoise.models.flow_transformer import FlowTransformer
from renoise.models.prompts import WithoutExpansion, split

T5_LENGTH = 512
"""Longest prompt in tokens of T5, as the pipeline takes it by default."""


class Flux(FlowTransformer):
    """FLUX.1 dev, whose guidance scale is an input of the network, and schnell, without guidance; see `DiffusionModel`.

    Latents are those of the autoencoder, [B, 16, h, w]. The network takes patches of 2×2 of them.

    Example:
        >>> import renoise
        >>> renoise.Flux.pipeline_class, renoise.Flux.is_flow
        ('FluxPipeline', True)
    """

    pipeline_class = "FluxPipeline"
    checked_with = "pipelines of random weights"

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        super().__init__(pipeline)
        self.text_encoder_2: nn.Module = pipeline.text_encoder_2

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the guidance scale is an input of the transformer: in dev, not in schnell."""
        return bool(self._config.guidance_embeds)

    @property
    def has_guidance(self) -> bool:
        """Whether it is dev; schnell has none."""
        return self.takes_guidance_scale

    @property
    def latent_channels(self) -> int:
        """C of the latents, of which a patch has four times as many."""
        return int(self._config.in_channels) // 4

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers of CLIP and T5; see `StableDiffusion.tokenizers`."""
        return {"": self.pipeline.tokenizer, "_2": self.pipeline.tokenizer_2}

    def unshifted_sigmas(self, num_inference_steps: int) -> list[float]:
        """Returns equal steps from 1 to 1/S."""
        return list(np.linspace(1.0, 1 / num_inference_steps, num_inference_steps))

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Splits at the length of T5, which takes more than CLIP."""
        return split([self.pipeline.tokenizer_2], prompt, T5_LENGTH)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts by the pipeline's own `encode_prompt`; see `DiffusionModel.encode_prompts`.

        There is no unconditional branch, so `negative_prompts` have no effect.
        """
        guidance_scale = effective_guidance_scale(guidance_scale)
        self.check_guidance(guidance_scale)
        embeds, pooled, _ = WithoutExpansion(self.pipeline).encode_prompt(
            device=self.device, max_sequence_length=T5_LENGTH, **self._texts("prompt", prompts)
        )
        return Conditioning(
            prompt_embeds=embeds,
            guidance_scale=guidance_scale,
            pooled_prompt_embeds=pooled,
            time_ids=None if time_ids is None else time_ids.to(embeds.device),
        )

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the embeddings of all branches, the tokens' positions, and the guidance scales of dev."""
        embeds = torch.cat([branch.prompt_embeds for branch in branches]).to(self.dtype)
        pooled = [branch.pooled_prompt_embeds for branch in branches if branch.pooled_prompt_embeds is not None]
        inputs = {
            "encoder_hidden_states": embeds,
            "pooled_projections": torch.cat(pooled).to(self.dtype),
            "txt_ids": embeds.new_zeros(embeds.shape[1], 3),
        }
        if self.takes_guidance_scale:
            scales = [branch.guidance_scale for branch in branches for _ in branch.prompt_embeds]
            inputs["guidance"] = torch.tensor(scales, dtype=torch.float32, device=embeds.device)
        return inputs

    def call_network(self, latents: torch.Tensor, timestep: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Packs the latents into patches, calls the transformer, which takes t / 1000, and unpacks its output."""
        pipeline, (count, channels, height, width) = self.pipeline, latents.shape
        packed = self.network(
            pipeline._pack_latents(latents.contiguous(), count, channels, height, width),
            timestep=timestep.expand(count) / 1000,
            img_ids=pipeline._prepare_latent_image_ids(count, height // 2, width // 2, latents.device, latents.dtype),
            return_dict=False,
            **inputs,
        )[0]
        scale = pipeline.vae_scale_factor
        unpacked: torch.Tensor = pipeline._unpack_latents(packed, height * scale, width * scale, scale)
        return unpacked

    def problems(self, pipeline: DiffusionPipeline) -> Iterator[str]:
        """Yields what does not fit together; see `FlowTransformer.problems`."""
        config, vae = pipeline.transformer.config, pipeline.vae
        if not isinstance(vae, AutoencoderKL):
            yield f"its autoencoder is an {type(vae).__name__}; take the checkpoint's own AutoencoderKL"
            return
        packed = 4 * vae.config.latent_channels
        returned = config.out_channels or config.in_channels
        if not config.in_channels == returned == packed:
            yield (
                f"its transformer takes {config.in_channels} channels and returns {returned}, and patches of its "
                f"autoencoder have {packed}"
            )
        for name, expected, found in (
            ("pooled embeddings", config.pooled_projection_dim, pipeline.text_encoder.config.hidden_size),
            ("embeddings", config.joint_attention_dim, pipeline.text_encoder_2.config.d_model),
        ):
            if expected != found:
                yield f"its transformer takes {name} of size {expected}, and the text encoder makes {found}"
