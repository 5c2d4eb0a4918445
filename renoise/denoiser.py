"""One adapter per model family: prompts, images ↔ latents, and ε_θ with guidance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, SchedulerMixin, StableDiffusionPipeline
from safetensors import SafetensorError, safe_open
from torch import nn

from renoise.errors import InputError


@dataclass(frozen=True)
class Conditioning:
    """What the network is told about each image of a batch.

    `prompt_embeds` [B, length, D] of the prompts; `negative_prompt_embeds` of the same shape, or None where
    `guidance_scale` is 1 and the unconditional branch has no say.
    """

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor | None
    guidance_scale: float

    @property
    def network_rows(self) -> int:
        """Rows that one prediction for one image takes in the network: 2 with guidance, else 1."""
        return 1 if self.negative_prompt_embeds is None else 2

    def rows(self, rows: torch.Tensor) -> Conditioning:
        """The conditioning of some images of the batch, int64 [n]."""
        negative = None if self.negative_prompt_embeds is None else self.negative_prompt_embeds[rows]
        return Conditioning(self.prompt_embeds[rows], negative, self.guidance_scale)


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
        self, prompts: list[str], guidance_scale: float = 1.0, negative_prompts: list[str] | None = None
    ) -> Conditioning:
        """Text embeddings of B prompts; what exceeds the encoder's length is left out.

        `negative_prompts` (empty ones where None) take the unconditional branch, and are encoded only where
        `guidance_scale` differs from 1.
        """
        guided = guidance_scale != 1
        embeds, negative_embeds = self.pipeline.encode_prompt(
            prompt=[self.split_prompt(prompt)[0] for prompt in prompts],
            device=next(self.text_encoder.parameters()).device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            negative_prompt=[self.split_prompt(prompt)[0] for prompt in negative_prompts] if negative_prompts else None,
        )
        return Conditioning(embeds, negative_embeds if guided else None, guidance_scale)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] in [0, 1] to latents [B, C, h, w]: the mean of the autoencoder's posterior."""
        pixels = (2 * images - 1).to(next(self.vae.parameters()).dtype)
        latents: torch.Tensor = self.pipeline.vae.encode(pixels).latent_dist.mean
        return latents.to(self.state_dtype) * float(self.pipeline.vae.config.scaling_factor)

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, h, w] to images [B, 3, H, W] in [0, 1], float32."""
        scaled = (latents / self.pipeline.vae.config.scaling_factor).to(next(self.vae.parameters()).dtype)
        images: torch.Tensor = self.pipeline.vae.decode(scaled).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def predict(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        """ε_θ(z_t, t, c), guided: ε_∅ + s · (ε_c − ε_∅) where the guidance scale s is not 1.

        Args:
            latents: the network's input, [B, C, h, w], already scaled as the sampler asks.
            timestep: t.
            conditioning: of the same B images.

        Returns:
            The network's output (whatever the checkpoint predicts: ε, v, …) in the latents' type.
        """
        embeds, negative = conditioning.prompt_embeds, conditioning.negative_prompt_embeds
        dtype = next(self.unet.parameters()).dtype
        if negative is None:
            return self._unet(latents.to(dtype), timestep, embeds).to(latents.dtype)
        both = self._unet(latents.to(dtype).repeat(2, 1, 1, 1), timestep, torch.cat([negative, embeds]))
        unconditional, conditional = both.to(latents.dtype).chunk(2)
        return unconditional + conditioning.guidance_scale * (conditional - unconditional)

    def _unet(self, latents: torch.Tensor, timestep: float, embeds: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.unet(latents, timestep, encoder_hidden_states=embeds, return_dict=False)[0]
        return output


FAMILIES: dict[str, type[Denoiser]] = {adapter.family: adapter for adapter in (Denoiser,)}
"""Adapters by the pipeline class that a checkpoint's `model_index.json` names."""


VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Either of these holds the words that a tokenizer knows."""


def load_denoiser(checkpoint: str) -> Denoiser:
    """The adapter for a hub id or a local folder in diffusers layout.

    Raises:
        InputError: no such checkpoint, one that lacks a part, or one of a family not supported.
    """
    if not checkpoint:
        raise InputError("model.checkpoint must be a hub id or a local folder in diffusers layout, got nothing")
    try:
        index: dict[str, Any] = dict(DiffusionPipeline.load_config(checkpoint))
        family = str(index.get("_class_name"))
        if family not in FAMILIES:
            raise InputError(
                f"model.checkpoint: {checkpoint} is a {family}; supported are {', '.join(sorted(FAMILIES))}"
            )
        _check_parts(checkpoint, index)
        pipeline = DiffusionPipeline.from_pretrained(checkpoint, use_safetensors=True, safety_checker=None)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model.checkpoint: {checkpoint} cannot be loaded: {reason}") from error
    pipeline.text_encoder.float()  # it comes in the type of its file, the other networks in float32
    return FAMILIES[family](pipeline)


def _check_parts(checkpoint: str, index: dict[str, Any]) -> None:
    """Names the part that a local checkpoint lacks, or that is damaged; the hub's loader says so by itself.

    The libraries do not always complain: without its configuration a text encoder begins anew with random weights, and
    without its vocabulary a tokenizer knows no word.
    """
    if not Path(checkpoint).is_dir():
        return
    wanted = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    problems = {name: _problem(Path(checkpoint) / name) for name in wanted if name != "safety_checker"}
    found = "; ".join(f"the part {name} {problem}" for name, problem in problems.items() if problem)
    if found:
        raise InputError(f"model.checkpoint: {checkpoint}: {found}")


def _problem(part: Path) -> str | None:
    """What is wrong with the folder of one part of a pipeline, None where nothing is."""
    if not part.is_dir():
        return "is missing"
    if not any(part.glob("*config.json")):
        return "has no configuration"
    if part.name.startswith("tokenizer") and not any((part / name).exists() for name in VOCABULARIES):
        return f"has no vocabulary ({' or '.join(VOCABULARIES)})"
    for path in sorted(part.iterdir()):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass  # its header says whether all of it is there
        except (OSError, ValueError, SafetensorError) as error:
            return f"has a damaged {path.name} ({error})"
    return None
