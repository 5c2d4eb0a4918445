"""The editor: image and edit are sampled side by side, the edit under the image's attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.models.attention import controlled_attention
from renoise.models.base import Conditioning, DiffusionModel, guide

from ..prompt_swap import PromptSwap
from ..word_alignment import words
from .attention_replacement import AttentionReplacement
from .local_blend import blend
from .token_map import Mode, map_tokens
from .word_maps import WordMaps

BLEND_FROM = 0.2
"""Share of the steps before which the words' maps are not yet trusted, as in the paper."""


class PromptToPrompt(PromptSwap):
    """Gives the edit the attention of the image, so that it keeps to its layout.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes each image's
            `edit_text`, or with `reweight` its prompt as it is.
        guidance_scale: how strongly the new prompt pulls.
        strength: share of the sampler's steps to take, in (0, 1].
        mode: `swap`, where each word stands for the one in its place and prompts are as long as one another; `refine`,
            where what the new prompt adds or changes attends by itself.
        cross_replace_steps: share of the steps, from the first on, whose cross-attention is the image's.
        self_replace_steps: likewise of self-attention.
        reweight: factors of words of the new prompt, such as `{red: 2}`, while cross-attention is replaced.
        local_blend: whether to keep the image wherever the changed words do not attend to.
        blend_threshold: share of the way from the weakest attention to the strongest from which on a word is there, in
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
        self.needs |= {"attention"}
        for name, share in (("cross_replace_steps", cross_replace_steps), ("self_replace_steps", self_replace_steps)):
            if not 0 <= share <= 1:
                raise InputError(f"PromptToPrompt: {name} must lie in [0, 1], got {share}")
        if not 0 < blend_threshold < 1:
            raise InputError(f"PromptToPrompt: blend_threshold must lie in (0, 1), got {blend_threshold}")
        if reweight is not None and not all(math.isfinite(factor) for factor in reweight.values()):
            raise InputError(f"PromptToPrompt: reweight must hold finite factors, got {reweight}")
        if reweight and cross_replace_steps == 0:
            raise InputError("PromptToPrompt: reweight weighs while cross_replace_steps last, which is 0")
        self.mode: Mode = mode
        self.cross_replace_steps, self.self_replace_steps = cross_replace_steps, self_replace_steps
        self.reweight = {word.lower(): factor for word, factor in (reweight or {}).items()}
        self.local_blend, self.blend_threshold = local_blend, blend_threshold

    def edit_prompt(self, request: EditRequest) -> str | None:
        """The prompt to sample under; the image's own where words are only weighed."""
        new = super().edit_prompt(request)
        return request.prompt if new is None and self.replace is None and self.reweight else new

    def refusal(self, request: EditRequest) -> str | None:
        """The reason where there is nothing to edit to, or the words do not stand for one another."""
        new = self.edit_prompt(request)
        if new is None:
            return super().refusal(request)
        missing = self.reweight.keys() - {word.text.lower() for word in words(new)}
        if missing:
            return f"the prompt {new!r} holds none of the words to weigh: {', '.join(sorted(missing))}"
        lengths = len(words(request.prompt)), len(words(new))
        if self.mode == "swap" and lengths[0] != lengths[1]:
            return (
                f"the prompts {request.prompt!r} and {new!r} have {lengths[0]} and {lengths[1]} words and marks, and a "
                "swap goes one by one; PromptToPrompt with mode: refine takes prompts of any length"
            )
        return None

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples every image under its new prompt and its own attention, [B, 3, H, W] in [0, 1]."""
        prompts, new_prompts = [request.prompt for request in requests], self.edit_prompts(model, requests)
        new = model.encode_prompts(new_prompts, self.guidance_scale, time_ids=inversion.conditioning.time_ids)
        length = new.prompt_embeds.shape[1]
        tokens = map_tokens(model, self.mode, self.reweight, prompts, new_prompts, length)
        steps, source = inversion.start(self.strength)
        edited = source
        maps = WordMaps(tokens, (source.shape[-2], source.shape[-1])) if self.local_blend else None
        above = inversion.conditioning.nfe * len(requests)  # rows of the images, which come first
        control = AttentionReplacement(tokens, slice(above - len(requests), above), maps)
        with controlled_attention(model.pipeline.unet, control):
            for index in steps:
                done = (index - steps.start) / len(steps)
                control.replaces_cross = done < self.cross_replace_steps
                control.replaces_self = done < self.self_replace_steps
                source, edited = _step(model, inversion, index, source, edited, new)
                if maps is not None and done >= BLEND_FROM:
                    edited = blend(maps, self.blend_threshold, source, edited)
        images = model.decode_latents(edited)
        if maps is None:
            return images
        # Again in pixels: the autoencoder's normalization spreads what changed at one place over the whole picture.
        return blend(maps, self.blend_threshold, model.decode_latents(source), images)


def _step(
    model: DiffusionModel,
    inversion: Inversion,
    index: int,
    source: torch.Tensor,
    edited: torch.Tensor,
    new: Conditioning,
) -> tuple[torch.Tensor, torch.Tensor]:
    """z_{t-1} of the images and of their edits, from one call of the network."""
    step, own = inversion.schedule.steps[index], inversion.conditioning_at(index)
    if inversion.null_embeddings is not None and new.negative_prompt_embeds is not None:
        new = replace(new, negative_prompt_embeds=inversion.null_embeddings[index])
    latents = [step.input_scale * source] * own.nfe + [step.input_scale * edited] * new.nfe
    predictions = model.predict_branches(latents, step.timestep, [*own.branches, *new.branches])
    images, edits = predictions[: own.nfe], predictions[own.nfe :]
    source = inversion.denoise_reference(index, source, guide(images, own.guidance_scale))
    return source, inversion.denoise(index, edited, guide(edits, new.guidance_scale))
