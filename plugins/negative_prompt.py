"""Negative-prompt inversion: the image's own prompt replaces the empty prompt of the unconditional branch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from renoise import DiffusionModel, EditRequest, Inversion, PromptEditor, guide, walk


class NegativePrompt(PromptEditor):
    """Guides from the image's own prompt to the edit prompt (Miyake et al., arXiv 2305.16807).

    ε = ε_source + s · (ε_target − ε_source). It reconstructs the image at s = 0, and equals `PromptSwap` without
    guidance at s = 1. It takes as many function evaluations as guidance does, and no optimization.

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the image's
            `edit_text` as the edit prompt.
        guidance_scale: s, 0 or more. 0 is the image, 1 the new prompt without guidance; more changes more.
        strength: Share of the sampler's steps to run, in (0, 1].
        proximal_quantile: Share of the entries of ε_target − ε_source, in [0, 1), that are set to 0: the smallest ones
            (proximal guidance, Han et al., arXiv 2306.05414). Null keeps all of them.
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 1.5,
        strength: float = 1.0,
        proximal_quantile: float | None = None,
    ) -> None:
        super().__init__(replace, strength=strength)
        if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
            raise ValueError(f"{self.name}: guidance_scale must be 0 or more, got {guidance_scale}")
        self.guidance_scale = guidance_scale
        if proximal_quantile is not None and not 0 <= proximal_quantile < 1:
            raise ValueError(f"{self.name}: proximal_quantile must be in [0, 1), or null, got {proximal_quantile}")
        self.proximal_quantile = proximal_quantile

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples the images with guidance from their own prompts to their edit prompts; see `Editor.edit`."""
        if self.guidance_scale == 1 and self.proximal_quantile is None:
            return super().edit(model, inversion, requests)  # ε_source cancels out
        time_ids = inversion.conditioning.time_ids
        source = model.encode_prompts([request.prompt for request in requests], time_ids=time_ids)
        target = model.encode_prompts(self.edit_prompts(model, requests), time_ids=time_ids)

        def predict(position: float, latents: torch.Tensor) -> torch.Tensor:
            step = inversion.schedule.at(position)
            inputs = step.input_scale * latents
            eps_source, eps_target = model.predict_branches([inputs, inputs], step.timestep, [source, target])
            if self.proximal_quantile is not None:
                eps_target = eps_source + proximal(eps_target - eps_source, self.proximal_quantile)
            return guide([eps_source, eps_target], self.guidance_scale)  # the paper's formula in every family

        return model.decode_latents(walk(inversion, predict, self.strength))


def proximal(difference: torch.Tensor, quantile: float) -> torch.Tensor:
    """Sets the smallest entries of each image to 0: the proximal operator of λ‖·‖_0.

    Args:
        difference: [B, C, h, w].
        quantile: Share of the entries to set to 0, in [0, 1). It determines λ for each image.

    Returns:
        `difference` where its absolute value exceeds the quantile, else 0, [B, C, h, w].
    """
    sizes = difference.abs()
    threshold = sizes.flatten(1).quantile(quantile, dim=1)
    return torch.where(sizes > threshold[:, None, None, None], difference, 0.0)
