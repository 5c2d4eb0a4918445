"""Sampling by this project, to compare with what a flow-matching pipeline's own call gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel

PROMPTS = ("a cat on a plain red background", "a dog on a dotted blue background")
STEPS = 4


@torch.no_grad()
def our_latents(
    model: DiffusionModel,
    start: torch.Tensor,
    guidance_scale: float,
    negatives: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    prompts: Sequence[str] = PROMPTS,
) -> torch.Tensor:
    """Returns what `STEPS` steps make of the first latents, one for each prompt.

    Args:
        model: The model.
        start: z_T, [B, C, h, w].
        guidance_scale: Of the prompts.
        negatives: Prompts of the unconditional branch.
        size: (h, w) of the latents whose steps are taken. None is that of `start`.
        prompts: B prompts or more.
    """
    height, width = size or start.shape[-2:]
    schedule = model.read_schedule(model.scheduler, STEPS, latent_size=(height, width))
    conditioning = model.encode_prompts(prompts[: len(start)], guidance_scale, negatives)
    return sample(model, Inversion(start, schedule, conditioning))
