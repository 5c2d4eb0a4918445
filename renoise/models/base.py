"""What inversion and editing need of a Stable Diffusion: prompts, images ↔ latents, and ε_θ with guidance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
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
    def nfe(self) -> int:
        """Rows that one prediction for one image takes in the network: 2 with guidance, else 1."""
        return 1 if self.negative_prompt_embeds is None else 2

    def select(self, rows: torch.Tensor) -> Conditioning:
        """The conditioning of some images of the batch, int64 [n]; an image may come more than once."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        tensors = {name: value[rows] for name, value in values.items() if isinstance(value, torch.Tensor)}
        return Conditioning(**values | tensors)

    @property
    def conditional(self) -> Conditioning:
        """The prompts alone, without guidance."""
        return replace(self, negative_prompt_embeds=None, negative_pooled_prompt_embeds=None, guidance_scale=1.0)

    @property
    def unconditional(self) -> Conditioning:
        """What guidance leads away from, as prompts of its own; there must be guidance."""
        if self.negative_prompt_embeds is None:
            raise ValueError("without guidance there is no unconditional branch")
        pooled = self.negative_pooled_prompt_embeds
        return replace(self.conditional, prompt_embeds=self.negative_prompt_embeds, pooled_prompt_embeds=pooled)

    @property
    def branches(self) -> list[Conditioning]:
        """What one prediction takes: the unconditional branch, where there is guidance, and the prompts."""
        return [self.conditional] if self.negative_prompt_embeds is None else [self.unconditional, self.conditional]


class DiffusionModel(nn.Module):
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
        self.vae: nn.Module = pipeline.vae.to(memory_format=torch.channels_last)  # all convolutions: a third faster
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
            spans = self._spans(prompt[:end])
            if len(spans) <= room:
                return prompt[:end], prompt[end:]
            end = min(spans[room][0], end - 1)  # once more: half a word can take more tokens than it had in the whole

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """First character and the one after the last of every token of a prompt that the text encoder takes.

        In `prompt_embeds` the first of them is the second: they begin with a token that stands for no character.
        """
        return self._spans(self.split_prompt(prompt)[0])

    def _spans(self, text: str) -> list[tuple[int, int]]:
        tokenized = self.pipeline.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        return [(int(begin), int(end)) for begin, end in tokenized.offset_mapping]

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
        predictions = self.predict_branches([latents] * conditioning.nfe, timestep, conditioning.branches)
        return guide(predictions, conditioning.guidance_scale)

    def predict_branches(
        self, latents: Sequence[torch.Tensor], timestep: float | torch.Tensor, branches: Sequence[Conditioning]
    ) -> list[torch.Tensor]:
        """ε_θ of several batches of B images in one call of the network, each as it is told and without guidance.

        Args:
            latents: the network's input of each branch, [B, C, h, w], already scaled as the sampler asks.
            timestep: t, of all images or of each [B].
            branches: as many conditionings of B images; their guidance scales have no say.

        Returns:
            The network's output for each branch, in its latents' type.
        """
        rows = len(latents[0])
        if isinstance(timestep, torch.Tensor):
            timestep = timestep.repeat(len(branches))
        inputs = torch.cat(list(latents)).to(next(self.unet.parameters()).dtype)
        output: torch.Tensor = self.unet(inputs, timestep, return_dict=False, **self.network_inputs(branches))[0]
        return list(output.to(latents[0].dtype).split(rows))

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """The UNet's keyword arguments: the rows of one branch below those of the other."""
        return {"encoder_hidden_states": torch.cat([branch.prompt_embeds for branch in branches])}


def guide(predictions: Sequence[torch.Tensor], guidance_scale: float) -> torch.Tensor:
    """ε_∅ + s · (ε_c − ε_∅) of the predictions [ε_∅, ε_c]; of [ε_c] alone, ε_c."""
    if len(predictions) == 1:
        return predictions[0]
    unconditional, conditional = predictions
    return unconditional + guidance_scale * (conditional - unconditional)
