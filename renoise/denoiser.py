"""What inversion and editing need of a Stable Diffusion: prompts, images ↔ latents, and ε_θ with guidance."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from diffusers import SchedulerMixin, StableDiffusionPipeline
from torch import nn


@dataclass(frozen=True)
class Conditioning:
    """What the network is told about each image of a batch, under diffusers' names.

    The negative embeddings are None where `guidance_scale` is 1 and the unconditional branch has no say; the pooled
    ones where the family has none. `time_ids` [B, 6] are SDXL's sizes: the original's height and width, the crop's top
    and left, the target's height and width; other families carry them along.
    """

    prompt_embeds: torch.Tensor
    """[B, length, D]"""
    negative_prompt_embeds: torch.Tensor | None
    guidance_scale: float
    pooled_prompt_embeds: torch.Tensor | None = None
    """[B, P]"""
    negative_pooled_prompt_embeds: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    @property
    def network_rows(self) -> int:
        """Rows that one prediction for one image takes in the network: 2 with guidance, else 1."""
        return 1 if self.negative_prompt_embeds is None else 2

    def rows(self, rows: torch.Tensor) -> Conditioning:
        """The conditioning of some images of the batch, int64 [n]; an image may come more than once."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        tensors = {name: value[rows] for name, value in values.items() if isinstance(value, torch.Tensor)}
        return Conditioning(**values | tensors)


class Denoiser(nn.Module):
    """Stable Diffusion 1.x and 2.x behind the few calls that inversion and editing need.

    The pipeline's networks are submodules, so that Lightning moves and casts them. Latents are what diffusers'
    pipelines denoise (the autoencoder's mean times its scaling factor), in float32 or wider whatever the networks
    run in.
    """

    family: ClassVar[str] = "StableDiffusionPipeline"

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.unet: nn.Module = pipeline.unet
        self.vae: nn.Module = pipeline.vae
        self.text_encoder: nn.Module = pipeline.text_encoder
        self.requires_grad_(False).eval()

    @property
    def scheduler(self) -> SchedulerMixin:
        """The checkpoint's own sampler."""
        return self.pipeline.scheduler

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.unet.parameters()).device

    @property
    def state_dtype(self) -> torch.dtype:
        """The type that latents are kept in: float32, or float64 with networks in float64."""
        return torch.promote_types(torch.float32, next(self.unet.parameters()).dtype)

    @property
    def size_multiple(self) -> int:
        """Sides of images must be a multiple of this many pixels."""
        return int(self.pipeline.vae_scale_factor)

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """The part of a prompt that the text encoder takes, and the rest that it cannot."""
        tokenizer = self.pipeline.tokenizer
        room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
        end = len(prompt)
        while True:
            spans = tokenizer(
                prompt[:end], return_offsets_mapping=True, add_special_tokens=False, verbose=False
            ).offset_mapping
            if len(spans) <= room:
                return prompt[:end], prompt[end:]
            end = min(spans[room][0], end - 1)  # once more: half a word can take more tokens than it had in the whole

    def encode_prompts(
        self,
        prompts: list[str],
        guidance_scale: float = 1.0,
        negative_prompts: list[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Text embeddings of B prompts; what exceeds the encoder's length is left out.

        Args:
            prompts: B prompts.
            guidance_scale: the negative embeddings are made only where it differs from 1.
            negative_prompts: for the unconditional branch; None is the empty prompt, or what the family takes for it.
            time_ids: the images' sizes [B, 6], see `Conditioning`; families that need them take None for images
                of the checkpoint's own size, uncropped.
        """
        guided = guidance_scale != 1
        embeds, negative, *pooled = self.pipeline.encode_prompt(
            prompt=self._shortened(prompts),
            device=self._text_device,
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

    def _shortened(self, prompts: list[str]) -> list[str]:
        return [self.split_prompt(prompt)[0] for prompt in prompts]

    @property
    def _text_device(self) -> torch.device:
        return next(self.text_encoder.parameters()).device

    def vae_precision(self) -> AbstractContextManager[object]:
        """Wraps every use of the autoencoder; families whose autoencoder overflows in half precision upcast it here."""
        return nullcontext()

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, C, h, w]: the mean of the autoencoder's posterior."""
        with self.vae_precision():
            pixels = (2 * images - 1).to(next(self.vae.parameters()).dtype)
            latents: torch.Tensor = self.pipeline.vae.encode(pixels).latent_dist.mean
        return latents.to(self.state_dtype) * float(self.pipeline.vae.config.scaling_factor)

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, h, w] to images [B, 3, H, W] in [0, 1], float32."""
        with self.vae_precision():
            scaled = (latents / self.pipeline.vae.config.scaling_factor).to(next(self.vae.parameters()).dtype)
            images: torch.Tensor = self.pipeline.vae.decode(scaled).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def predict(
        self, latents: torch.Tensor, timestep: float | torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """ε_θ(z_t, t, c), guided: ε_∅ + s · (ε_c − ε_∅) where the guidance scale s is not 1.

        Args:
            latents: the network's input, [B, C, h, w], already scaled as the sampler asks.
            timestep: t, of all images or of each [B].
            conditioning: of the same B images.

        Returns:
            The network's output (whatever the checkpoint predicts: ε, v, …) in the latents' type.
        """
        copies = conditioning.network_rows
        inputs = latents.to(next(self.unet.parameters()).dtype).repeat(copies, 1, 1, 1)
        if isinstance(timestep, torch.Tensor):
            timestep = timestep.repeat(copies)
        output: torch.Tensor = self.unet(inputs, timestep, return_dict=False, **self.network_inputs(conditioning))[0]
        if copies == 1:
            return output.to(latents.dtype)
        unconditional, conditional = output.to(latents.dtype).chunk(2)
        return unconditional + conditioning.guidance_scale * (conditional - unconditional)

    def network_inputs(self, conditioning: Conditioning) -> dict[str, Any]:
        """The UNet's keyword arguments: rows of the unconditional branch first, then of the prompts."""
        return {"encoder_hidden_states": join(conditioning.negative_prompt_embeds, conditioning.prompt_embeds)}


def join(negative: torch.Tensor | None, positive: torch.Tensor) -> torch.Tensor:
    """Both branches' rows below one another, [2 B, …]; the positive ones alone, [B, …], without guidance."""
    return positive if negative is None else torch.cat([negative, positive])
