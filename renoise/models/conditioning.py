"""What the network is conditioned on, and classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from renoise.errors import InputError


@dataclass(frozen=True)
class Conditioning:
    """The network's conditioning for B images, under diffusers' names.

    Args:
        prompt_embeds: [B, length, D].
        negative_prompt_embeds: [B, length, D]. None without guidance.
        guidance_scale: s of ε_∅ + s · (ε_c − ε_∅), or the network's input where it takes s. 1 is without guidance.
        pooled_prompt_embeds: [B, P]. None where the family has none.
        negative_pooled_prompt_embeds: [B, P]. None without guidance, or where the family has none.
        time_ids: SDXL's sizes, float32 [B, 6]: the original's height and width, the crop's top and left, the target's
            height and width. Other families ignore them.
        prompt_mask: Which positions of `prompt_embeds` are the prompt's, bool [B, length]. The others are padding. None
            means all of them.
        negative_prompt_mask: The same of `negative_prompt_embeds`.

    Example:
        >>> import torch
        >>> from renoise import Conditioning
        >>> conditioning = Conditioning(torch.zeros(3, 77, 8), torch.ones(3, 77, 8), guidance_scale=2.0)
        >>> conditioning.select(torch.tensor([0, 2])).prompt_embeds.shape
        torch.Size([2, 77, 8])
        >>> conditioning.nfe
        2
    """

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor | None = None
    guidance_scale: float = 1.0
    pooled_prompt_embeds: torch.Tensor | None = None
    negative_pooled_prompt_embeds: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None
    prompt_mask: torch.Tensor | None = None
    negative_prompt_mask: torch.Tensor | None = None

    @property
    def nfe(self) -> int:
        """Function evaluations that one prediction for one image takes: 2 with guidance, else 1."""
        return 1 if self.negative_prompt_embeds is None else 2

    def select(self, index: torch.Tensor) -> Conditioning:
        """Returns the conditioning of some images of the batch, int64 [n]. A position may occur more than once."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value[index] for name, value in values.items() if isinstance(value, torch.Tensor)}
        return Conditioning(**values | tensors)

    @property
    def conditional(self) -> Conditioning:
        """The prompts without guidance."""
        return replace(
            self,
            negative_prompt_embeds=None,
            negative_pooled_prompt_embeds=None,
            negative_prompt_mask=None,
            guidance_scale=1.0,
        )

    @property
    def unconditional(self) -> Conditioning:
        """The negative prompts as prompts. Raises ValueError where there are none."""
        if self.negative_prompt_embeds is None:
            raise ValueError("there is no unconditional branch: guidance_scale is 1, or an input of the network")
        pooled = self.negative_pooled_prompt_embeds
        return replace(
            self.conditional,
            prompt_embeds=self.negative_prompt_embeds,
            pooled_prompt_embeds=pooled,
            prompt_mask=self.negative_prompt_mask,
        )

    @property
    def branches(self) -> list[Conditioning]:
        """The unconditional branch, where there is one, and the conditional one."""
        return [self] if self.negative_prompt_embeds is None else [self.unconditional, self.conditional]


def effective_guidance_scale(guidance_scale: float) -> float:
    """Returns the guidance scale that stands for a user's: 1 for 0, which diffusers too takes as "no guidance".

    Few-step models are called with 0 in diffusers' examples, and have their prompt there.

    Raises:
        InputError: It is negative, not finite or in (0, 1). diffusers takes the latter as 1, and the formula of `guide`
            would weaken the prompt.
    """
    if guidance_scale == 0:
        return 1.0
    if not (math.isfinite(guidance_scale) and guidance_scale >= 1):
        raise InputError(f"guidance_scale must be 1 (no guidance; 0 means the same) or more, got {guidance_scale}")
    return guidance_scale


def guide(predictions: Sequence[torch.Tensor], guidance_scale: float) -> torch.Tensor:
    """Applies classifier-free guidance: ε_∅ + s · (ε_c − ε_∅).

    Args:
        predictions: [ε_∅, ε_c], or [ε_c] alone, which is returned as it is.
        guidance_scale: s.

    Example:
        >>> import torch
        >>> from renoise import guide
        >>> guide([torch.tensor([1.0]), torch.tensor([2.0])], guidance_scale=3.0)
        tensor([4.])
    """
    if len(predictions) == 1:
        return predictions[0]
    unconditional, conditional = predictions
    return unconditional + guidance_scale * (conditional - unconditional)
