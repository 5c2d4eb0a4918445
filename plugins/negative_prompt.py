"""Negative-prompt inversion: the source prompt takes the unconditional branch, so that what is common stays put."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.denoiser import Denoiser
from renoise.editing import EditRequest
from renoise.inversion import Inversion, sample

from .prompt_swap import PromptSwap


class NegativePrompt(PromptSwap):
    """Guides from the image's own prompt to the new one (Miyake et al., arXiv 2305.16807).

    ε = ε_source + s · (ε_new − ε_source): at s = 0 it reconstructs, at s = 1 it is `PromptSwap` without guidance. It
    costs as many network rows as guidance does, and no optimisation as null-text inversion.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes each image's
            `edit_text`.
        guidance_scale: s; more changes more.
        strength: share of the sampler's steps that see the new prompt, in (0, 1].
    """

    def edit(self, denoiser: Denoiser, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples every image from its prompt towards its new one, [B, 3, H, W] in [0, 1]."""
        conditioning = denoiser.encode_prompts(
            self.edit_prompts(requests),
            self.guidance_scale,
            negative_prompts=[request.prompt for request in requests],
            time_ids=inversion.conditioning.time_ids,
        )
        return denoiser.decode_latents(sample(denoiser, inversion, conditioning, self.strength))
