"""The prompt-to-prompt editor: samples the image and its edit together, the edit with the image's attention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import get_args

import torch

from renoise import (
    Conditioning,
    DiffusionModel,
    EditRequest,
    Inversion,
    PromptEditor,
    controlled_attention,
)

from ..word_alignment import split_words
from .attention_replacement import AttentionReplacement
from .local_blend import blend
from .token_map import Mode, map_tokens
from .word_maps import WordMaps

BLEND_FROM = 0.2
"""Share of the steps without local blend at the start, as in the paper. The maps are not reliable there."""


class PromptToPrompt(PromptEditor):
    """Gives the edit the attention of the image, which keeps the image's layout (arXiv 2208.01626).

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the image's
            `edit_text` as the edit prompt. With `reweight` and no `edit_text`, the prompt stays as it is.
        guidance_scale: Guidance scale of the edit prompt, 1 or more; see `PromptSwap`.
        strength: Share of the sampler's steps to run, in (0, 1].
        mode: `swap` replaces words one by one, in prompts of equally many words. `refine` takes prompts of any length;
            words that the edit prompt adds or changes keep their own attention.
        cross_replace_steps: Share of the steps, from the first, that use the image's cross-attention, in [0, 1].
        self_replace_steps: Share of the steps, from the first, that use the image's self-attention, in [0, 1].
        reweight: Factors of the attention to words of the edit prompt, such as `{red: 2}`. They apply while
            cross-attention is replaced.
        local_blend: Whether to keep the image where the changed words do not attend to.
        blend_threshold: A word attends to where its map exceeds minimum + blend_threshold · (maximum − minimum), in
            (0, 1).
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 1.5,
        strength: float = 1.0,
        mode: Mode = "swap",
        cross_replace_steps: float = 0.8,
        self_replace_steps: float = 0.4,
        reweight: dict[str, float] | None = None,
        local_blend: bool = False,
        blend_threshold: float = 0.3,
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        if mode not in get_args(Mode):
            raise ValueError(f"{self.name}: mode must be {' or '.join(get_args(Mode))}, got {mode!r}")
        for name, share in (("cross_replace_steps", cross_replace_steps), ("self_replace_steps", self_replace_steps)):
            if not 0 <= share <= 1:
                raise ValueError(f"{self.name}: {name} must be in [0, 1], got {share}")
        if not 0 < blend_threshold < 1:
            raise ValueError(f"{self.name}: blend_threshold must be in (0, 1), got {blend_threshold}")
        if reweight is not None and not all(math.isfinite(factor) for factor in reweight.values()):
            raise ValueError(f"{self.name}: reweight must contain finite factors, got {reweight}")
        if reweight and cross_replace_steps == 0:
            raise ValueError(f"{self.name}: reweight needs cross_replace_steps above 0, got 0")
        self.needs |= {"attention", "steps"}
        self.mode: Mode = mode
        self.cross_replace_steps = cross_replace_steps
        self.self_replace_steps = self_replace_steps
        self.reweight = {word.lower(): factor for word, factor in (reweight or {}).items()}
        self.local_blend = local_blend
        self.blend_threshold = blend_threshold

    def edit_prompt(self, request: EditRequest) -> str | None:
        """Returns the prompt to sample under: the image's own where words only have a weight."""
        prompt = super().edit_prompt(request)
        if prompt is None and self.replace is None and self.reweight:
            return request.prompt
        return prompt

    def refusal(self, request: EditRequest) -> str | None:
        """Returns why an image has no edit prompt, or why its words cannot be mapped. None where it can be edited."""
        prompt = self.edit_prompt(request)
        if prompt is None:
            return super().refusal(request)
        target_words = split_words(prompt)
        missing = self.reweight.keys() - {word.text.lower() for word in target_words}
        if missing:
            return f"the prompt {prompt!r} does not contain these words of reweight: {', '.join(sorted(missing))}"
        source_words = split_words(request.prompt)
        if self.mode == "swap" and len(source_words) != len(target_words):
            return (
                f"the prompts {request.prompt!r} and {prompt!r} have {len(source_words)} and {len(target_words)} words;"
                f" mode swap needs equally many, so use {self.name} with mode: refine"
            )
        return None

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples the images under their edit prompts with their own attention; see `Editor.edit`."""
        sources = [request.prompt for request in requests]
        targets = self.edit_prompts(model, requests)
        target = model.encode_prompts(targets, self.guidance_scale, time_ids=inversion.conditioning.time_ids)
        tokens = map_tokens(model, self.mode, self.reweight, sources, targets, length=target.prompt_embeds.shape[1])
        steps, source_latents = inversion.start(self.strength)
        latents = source_latents
        maps = WordMaps(tokens, (latents.shape[-2], latents.shape[-1])) if self.local_blend else None
        end_of_sources = inversion.conditioning.nfe * len(requests)  # their conditional branch comes last
        control = AttentionReplacement(tokens, slice(end_of_sources - len(requests), end_of_sources), maps)
        with controlled_attention(model.network, control):
            for step_index in steps:
                progress = (step_index - steps.start) / len(steps)
                control.replaces_cross = progress < self.cross_replace_steps
                control.replaces_self = progress < self.self_replace_steps
                source_latents, latents = _denoise_both(model, inversion, step_index, source_latents, latents, target)
                if maps is not None and progress >= BLEND_FROM:
                    latents = blend(maps, self.blend_threshold, source_latents, latents)
        images = model.decode_latents(latents)
        if maps is None:
            return images
        # The pixels are blended too: the autoencoder's normalization spreads a local change over the whole image.
        return blend(maps, self.blend_threshold, model.decode_latents(source_latents), images)


def _denoise_both(
    model: DiffusionModel,
    inversion: Inversion,
    step_index: int,
    source_latents: torch.Tensor,
    latents: torch.Tensor,
    target: Conditioning,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns z_{t-1} of the images and of their edits, from one call of the network."""
    step = inversion.schedule.steps[step_index]
    source = inversion.conditioning_at(step_index)
    if inversion.null_embeddings is not None and target.negative_prompt_embeds is not None:
        target = dataclasses.replace(target, negative_prompt_embeds=inversion.null_embeddings[step_index])
    source_inputs = [step.input_scale * source_latents] * source.nfe
    target_inputs = [step.input_scale * latents] * target.nfe
    predictions = model.predict_branches(
        source_inputs + target_inputs, step.timestep, source.branches + target.branches
    )
    source_prediction = model.guide(predictions[: source.nfe], source.guidance_scale)
    target_prediction = model.guide(predictions[source.nfe :], target.guidance_scale)
    return (
        inversion.denoise_reference(step_index, source_latents, source_prediction),
        inversion.denoise(step_index, latents, target_prediction),
    )
