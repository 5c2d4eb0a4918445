"""The editor: a direction in embedding space, and latents that descend towards the image's own cross-attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import torch

from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.models.attention import controlled_attention
from renoise.models.base import Conditioning, DiffusionModel

from ..prompt_swap import PromptSwap
from ..word_alignment import replaced
from .attention_distance import DistanceFromMaps, SourceMaps
from .direction import TEMPLATES, Direction, moved, read_bank

NEWEST_DIRECTIONS = 64
"""So many are kept, for data sets where every image has words of its own."""

Banks = tuple[tuple[str, ...], tuple[str, ...]]
"""Sentences about what the images show, and about what they shall show."""


class Pix2PixZero(PromptSwap):
    """Moves the prompt's embedding from sentences about one thing towards sentences about another.

    At every step the latents first descend the distance of the edit's cross-attention maps from those of the image,
    which is sampled beside.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the words in which
            each image's `edit_text` differs from its prompt.
        guidance_scale: how strongly the new embedding pulls.
        strength: share of the sampler's steps that see it, in (0, 1].
        cross_attention_guidance_amount: rate at which the network's inputs descend the gradient; 0 leaves them alone.
        source_sentences: a text file, a sentence a line, about what the images show. With `target_sentences` it stands
            for the words of every image; null builds banks around them. A run that goes on does not notice that the
            file has changed.
        target_sentences: likewise, about what they shall show.
        templates: what banks are built of: sentences with `{}` where the words go; null takes ones about any thing.
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 1.5,
        strength: float = 1.0,
        cross_attention_guidance_amount: float = 0.1,
        source_sentences: Path | None = None,
        target_sentences: Path | None = None,
        templates: Sequence[str] | None = None,
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        amount = cross_attention_guidance_amount
        if not (math.isfinite(amount) and amount >= 0):
            raise InputError(f"Pix2PixZero: cross_attention_guidance_amount must be 0 or more, got {amount}")
        if amount > 0:
            self.needs |= {"attention"}
        self.cross_attention_guidance_amount = amount
        self.templates = TEMPLATES if templates is None else tuple(templates)
        if not self.templates or not all("{}" in template for template in self.templates):
            raise InputError(f"Pix2PixZero: templates must be sentences with {{}} in them, got {list(self.templates)}")
        self.banks: Banks | None = None
        if source_sentences is not None and target_sentences is not None:
            named = {"source_sentences": source_sentences, "target_sentences": target_sentences}
            source, target = (tuple(read_bank(path, option)) for option, path in named.items())
            self.banks = source, target
        elif source_sentences is not None or target_sentences is not None:
            raise InputError("Pix2PixZero: source_sentences and target_sentences go together; only one is given")
        if self.banks is not None and replace is not None:
            raise InputError("Pix2PixZero: source_sentences and target_sentences leave replace no say; give either")
        self._denoiser: DiffusionModel | None = None

    def refusal(self, request: EditRequest) -> str | None:
        """The reason where an image has no direction to go in."""
        if self.banks is not None:
            return None
        refusal = super().refusal(request)
        if refusal is None and not self._banks(request):
            return (
                f"no word of the prompt {request.prompt!r} gives way to another in {self.edit_prompt(request)!r}; "
                "Pix2PixZero goes from words to words, or from source_sentences to target_sentences"
            )
        return refusal

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples every image along its direction, [B, 3, H, W] in [0, 1]."""
        prompts, sizes = [request.prompt for request in requests], inversion.conditioning.time_ids
        own = model.encode_prompts(prompts, self.guidance_scale, time_ids=sizes)
        new = moved(own, [self._direction(model, request) for request in requests])
        steps, edited = inversion.start(self.strength)
        source = edited
        for index in steps:
            step = inversion.schedule.steps[index]
            if self.cross_attention_guidance_amount > 0:
                maps = SourceMaps(len(requests))
                with controlled_attention(model.pipeline.unet, maps):
                    told = inversion.conditioning_at(index)
                    prediction = model.predict(step.input_scale * source, step.timestep, told)
                source = inversion.denoise_reference(index, source, prediction)
                edited = self._descend(model, inversion, index, edited, new, maps)
            edited = inversion.denoise(index, edited, model.predict(step.input_scale * edited, step.timestep, new))
        return model.decode_latents(edited)

    @torch.enable_grad()
    def _descend(
        self,
        model: DiffusionModel,
        inversion: Inversion,
        index: int,
        latents: torch.Tensor,
        new: Conditioning,
        maps: SourceMaps,
    ) -> torch.Tensor:
        """z_t, [B, C, h, w], whose scaled self took a step down the gradient of its distance from the source's maps."""
        step = inversion.schedule.steps[index]
        inputs = (step.input_scale * latents.detach()).requires_grad_()
        distance = DistanceFromMaps(maps.layers)
        with controlled_attention(model.pipeline.unet, distance):
            model.predict(inputs, step.timestep, new.conditional)
        (gradient,) = torch.autograd.grad(distance.total, inputs)
        return latents.detach() - self.cross_attention_guidance_amount / step.input_scale * gradient

    def _banks(self, request: EditRequest) -> list[Banks]:
        """The banks of every passage that gives way to another; empty where none does."""
        if self.banks is not None:
            return [self.banks]

        def built(words: str) -> tuple[str, ...]:
            return tuple(template.replace("{}", words) for template in self.templates)

        return [(built(old), built(new)) for old, new in replaced(request.prompt, self.edit_prompt(request) or "")]

    def _direction(self, model: DiffusionModel, request: EditRequest) -> Direction:
        """Of one image; banks are encoded once, as long as they are among the newest."""
        if self._denoiser is not model:
            self._denoiser = model
            self._between = lru_cache(NEWEST_DIRECTIONS)(partial(Direction.between, model))
        first, *others = (self._between(*banks) for banks in self._banks(request))
        return sum(others, start=first)
