"""FLUX.2 klein, base and distilled: a transformer trained by flow matching, and Qwen3 as text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, DiffusionPipeline, SchedulerMixin
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from renoise.models.conditioning import Conditioning, effective_guidance_scale
from renoise.models.flow_transformer import FlowTransformer
from renoise.models.prompts import expand, split

PROMPT_LENGTH = 512
"""Longest prompt in tokens, those of the chat around it included, as the pipeline takes it by default."""
LAYERS = 3
"""Number of the text encoder's layers whose features are the embedding of a token."""


class Flux2Klein(FlowTransformer):
    """FLUX.2 klein: base with guidance, distilled without; see `DiffusionModel`.

    Latents are patches of 2×2 latents of the autoencoder, normalised by its running mean and variance: [B, 128, h, w].

    Example:
        >>> import renoise
        >>> renoise.Flux2Klein.pipeline_class, renoise.Flux2Klein.is_flow
        ('Flux2KleinPipeline', True)
    """

    pipeline_class = "Flux2KleinPipeline"
    checked_with = "pipelines of random weights"

    @property
    def has_guidance(self) -> bool:
        """Whether it is base; distilled checkpoints have none."""
        return not self.pipeline.config.is_distilled

    @property
    def patch_size(self) -> int:
        """A latent here is a patch already."""
        return 1

    @property
    def size_multiple(self) -> int:
        """Pixels of an image along each side of a patch of 2×2 latents of the autoencoder."""
        return int(self.pipeline.vae_scale_factor) * 2

    def unshifted_sigmas(self, num_inference_steps: int) -> list[float]:
        """Returns equal steps from 1 to 1/S."""
        return list(np.linspace(1.0, 1 / num_inference_steps, num_inference_steps))

    def shift(self, scheduler: SchedulerMixin, patches: int, num_inference_steps: int) -> float:
        """Returns diffusers' empirical μ."""
        return float(compute_empirical_mu(patches, num_inference_steps))

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Splits at the text encoder's length less the tokens of the chat around a prompt."""
        return split(self.tokenizers.values(), prompt, PROMPT_LENGTH - self._chat_length)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts by the pipeline's own `encode_prompt`; see `DiffusionModel.encode_prompts`."""
        guidance_scale = effective_guidance_scale(guidance_scale)
        self.check_guidance(guidance_scale)
        negative = None
        if guidance_scale != 1:
            negative = self._encode(negative_prompts or [""] * len(prompts))
        embeds = self._encode(prompts)
        return Conditioning(
            prompt_embeds=embeds,
            negative_prompt_embeds=negative,
            guidance_scale=guidance_scale,
            time_ids=None if time_ids is None else time_ids.to(embeds.device),
        )

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images, makes patches and normalises them; see `DiffusionModel.encode_images`."""
        with self.vae_precision():
            mean = self.vae.encode((2 * images - 1).to(self.vae.dtype)).latent_dist.mean.to(self.state_dtype)
        running_mean, std = self._statistics(mean)
        latents: torch.Tensor = (self.pipeline._patchify_latents(mean.contiguous()) - running_mean) / std
        return latents

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes latents; see `DiffusionModel.decode_latents`."""
        running_mean, std = self._statistics(latents)
        unpatched = self.pipeline._unpatchify_latents(latents * std + running_mean)
        with self.vae_precision():
            images: torch.Tensor = self.vae.decode(unpatched.to(self.vae.dtype)).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the prompt embeddings of all branches and their tokens' positions."""
        inputs = super().network_inputs(branches)
        embeds = inputs["encoder_hidden_states"]
        ids = self.pipeline._prepare_text_ids(embeds[:1]).expand(len(embeds), -1, -1)
        return inputs | {"txt_ids": ids.to(embeds.device), "guidance": None}

    def call_network(self, latents: torch.Tensor, timestep: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Calls the transformer, which takes a sequence of patches and t / 1000; see `DiffusionModel.call_network`."""
        pipeline = self.pipeline
        packed = self.network(
            pipeline._pack_latents(latents),
            timestep=timestep.expand(len(latents)) / 1000,
            img_ids=pipeline._prepare_latent_ids(latents).to(latents.device),
            return_dict=False,
            **inputs,
        )[0]
        output: torch.Tensor = packed.transpose(1, 2).reshape(latents.shape)
        return output

    def problems(self, pipeline: DiffusionPipeline) -> Iterator[str]:
        """Yields what does not fit together; see `FlowTransformer.problems`."""
        config, vae, encoder = pipeline.transformer.config, pipeline.vae, pipeline.text_encoder.config
        if not isinstance(vae, AutoencoderKLFlux2):
            yield f"its autoencoder is an {type(vae).__name__}; take the checkpoint's own AutoencoderKLFlux2"
            return
        packed = 4 * vae.config.latent_channels
        returned = config.out_channels or config.in_channels
        if not config.in_channels == returned == packed:
            yield (
                f"its transformer takes {config.in_channels} channels and returns {returned}, and patches of its "
                f"autoencoder have {packed}"
            )
        expected, made = config.joint_attention_dim, LAYERS * encoder.hidden_size
        if expected != made:
            yield f"its transformer takes embeddings of size {expected}, and the text encoder makes {made}"

    @property
    def _chat_length(self) -> int:
        """Tokens of the chat around a prompt."""
        tokenizer = self.pipeline.tokenizer
        chat = [{"role": "user", "content": ""}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        return len(tokenizer(text).input_ids)

    def _encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Returns the embeddings [B, 512, D] of prompts, cut to the text encoder's length."""
        kept = [expand(self.pipeline.tokenizer, self.split_prompt(prompt)[0])[0] for prompt in prompts]
        embeds, _ = self.pipeline.encode_prompt(kept, device=self.device, max_sequence_length=PROMPT_LENGTH)
        return torch.as_tensor(embeds)

    def _statistics(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the mean and standard deviation of each channel of the patches, [1, C, 1, 1]."""
        norm = self.vae.bn
        std = torch.sqrt(norm.running_var + self.vae.config.batch_norm_eps)
        mean, std = (values.view(1, -1, 1, 1).to(latents) for values in (norm.running_mean, std))
        return mean, std
