"""The pix2pix-zero editor: an edit direction in embedding space and guidance by cross-attention maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, get_args

import torch

from renoise import (
    Conditioning,
    DiffusionModel,
    EditRequest,
    Inversion,
    PromptEditor,
    Schedule,
    Step,
    controlled_attention,
)

from ..word_alignment import substitutions
from .attention_distance import CrossAttentionMaps, distance_gradient
from .direction import TEMPLATES, Direction, add_directions, read_bank

CACHED_DIRECTIONS = 64
"""How many edit directions are kept. Every image of a data set may have its own."""

Negative = Literal["source", "empty"]

Banks = tuple[tuple[str, ...], tuple[str, ...]]
"""Sentences about the source and sentences about the target of an edit."""


class Pix2PixZero(PromptEditor):
    """Moves the prompt's embedding from sentences about the source towards sentences about the target.

    At every step it samples the image too, and moves the edit's latents down the gradient of the distance between both
    cross-attention maps (arXiv 2302.03027).

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the words in
            which the image's `edit_text` differs from its prompt.
        guidance_scale: Guidance scale of the moved embedding, 1 or more; see `PromptSwap`.
        strength: Share of the sampler's steps to run, in (0, 1].
        negative: What guidance leads away from: `source`, the image's own prompt, as in the published code, or `empty`,
            the empty prompt. It matters where the guidance scale is above 1.
        cross_attention_guidance_amount: Step size of the gradient descent, 0 or more. 0 switches it off.
        source_sentences: Text file of sentences about the source, one per line. Needs `target_sentences`. The two
            files then determine the direction of every image. Null builds the sentences from `templates`. A resumed run
            does not notice that the file has changed.
        target_sentences: Text file of sentences about the target, one per line.
        templates: Sentences with `{}` in place of the source or target words. Null takes 16 that fit any thing.
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 1.5,
        strength: float = 1.0,
        negative: Negative = "source",
        cross_attention_guidance_amount: float = 0.1,
        source_sentences: Path | None = None,
        target_sentences: Path | None = None,
        templates: Sequence[str] | None = None,
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        amount = cross_attention_guidance_amount
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f"{self.name}: cross_attention_guidance_amount must be 0 or more, got {amount}")
        if negative not in get_args(Negative):
            raise ValueError(f"{self.name}: negative must be {' or '.join(get_args(Negative))}, got {negative!r}")
        self.negative = negative
        self.cross_attention_guidance_amount = amount
        self.needs |= {"attention", "steps"} if amount > 0 else {"steps"}
        self.templates = TEMPLATES if templates is None else tuple(templates)
        if not self.templates or not all("{}" in template for template in self.templates):
            raise ValueError(f"{self.name}: templates must be sentences that contain {{}}, got {list(self.templates)}")
        self.banks = self._read_banks(source_sentences, target_sentences)
        if self.banks is not None and templates is not None:
            raise ValueError(f"{self.name}: templates cannot be combined with source_sentences and target_sentences")
        self._model: DiffusionModel | None = None

    def _read_banks(self, source_sentences: Path | None, target_sentences: Path | None) -> Banks | None:
        """Reads the banks of sentences that stand for every image, or returns None where there are no files."""
        if source_sentences is None and target_sentences is None:
            return None
        if source_sentences is None or target_sentences is None:
            raise ValueError(f"{self.name}: source_sentences and target_sentences need each other; only one is given")
        source = read_bank(source_sentences, "source_sentences")
        target = read_bank(target_sentences, "target_sentences")
        if self.replace is not None:
            raise ValueError(f"{self.name}: replace cannot be combined with source_sentences and target_sentences")
        return tuple(source), tuple(target)

    def refusal(self, request: EditRequest) -> str | None:
        """Returns why an image has no edit direction, or None where it has one."""
        if self.banks is not None:
            return None
        refusal = super().refusal(request)
        if refusal is None and not self._banks_of(request):
            return (
                f"no word of the prompt {request.prompt!r} is replaced by another in {self.edit_prompt(request)!r}; "
                f"{self.name} needs one that is, or source_sentences and target_sentences"
            )
        return refusal

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        """Raises ValueError where no step is run, or cross-attention guidance has no gradients."""
        super().check(model, schedule)
        if self.cross_attention_guidance_amount > 0:
            model.check_differentiable(self.name)

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples the images along their edit directions; see `Editor.edit`."""
        prompts = [request.prompt for request in requests]
        source = model.encode_prompts(
            prompts,
            self.guidance_scale,
            negative_prompts=prompts if self.negative == "source" else None,
            time_ids=inversion.conditioning.time_ids,
        )
        target = add_directions(source, [self._direction(model, request) for request in requests])
        steps, latents = inversion.start(self.strength)
        source_latents = latents
        for step_index in steps:
            step = inversion.schedule.steps[step_index]
            if self.cross_attention_guidance_amount > 0:
                maps = CrossAttentionMaps(len(requests))
                with controlled_attention(model.network, maps):
                    conditioning = inversion.conditioning_at(step_index)
                    prediction = model.predict(step.input_scale * source_latents, step.timestep, conditioning)
                source_latents = inversion.denoise_reference(step_index, source_latents, prediction)
                latents = self._descend(model, step, latents, target, maps.layers)
            prediction = model.predict(step.input_scale * latents, step.timestep, target)
            latents = inversion.denoise(step_index, latents, prediction)
        return model.decode_latents(latents)

    @torch.enable_grad()
    def _descend(
        self,
        model: DiffusionModel,
        step: Step,
        latents: torch.Tensor,
        target: Conditioning,
        source_maps: list[torch.Tensor],
    ) -> torch.Tensor:
        """Moves z_t, [B, C, h, w], by one step of gradient descent on the network's input x = input_scale · z_t.

        x ← x − amount · ∇_x ‖M(x) − M_source‖²
        """
        inputs = (step.input_scale * latents.detach()).requires_grad_()
        maps = CrossAttentionMaps(len(latents))
        with controlled_attention(model.network, maps):
            model.predict(inputs, step.timestep, target.conditional)
            gradient = distance_gradient(maps.layers, source_maps, inputs)  # checkpointing calls the layers again
        return latents.detach() - self.cross_attention_guidance_amount / step.input_scale * gradient

    def _banks_of(self, request: EditRequest) -> list[Banks]:
        """Returns the banks of every substitution of an image's words. The list is empty where there is none."""
        if self.banks is not None:
            return [self.banks]

        def bank(words: str) -> tuple[str, ...]:
            return tuple(template.replace("{}", words) for template in self.templates)

        pairs = substitutions(request.prompt, self.edit_prompt(request) or "")
        return [(bank(source), bank(target)) for source, target in pairs]

    def _direction(self, model: DiffusionModel, request: EditRequest) -> Direction:
        """Returns the sum of an image's edit directions. The latest directions of the model are cached."""
        if self._model is not model:
            self._model = model
            self._between = lru_cache(CACHED_DIRECTIONS)(partial(Direction.between, model))
        first, *others = (self._between(*banks) for banks in self._banks_of(request))
        return sum(others, start=first)
