"""Negative-prompt inversion: the source prompt takes the unconditional branch, so that what is common stays put."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, walk
from renoise.models.base import DiffusionModel, guide

from .prompt_swap import PromptSwap


class NegativePrompt(PromptSwap):
    """Guides from the image's own prompt to the new one (Miyake et al., arXiv 2305.16807).

    ε = ε_source + s · (ε_new − ε_source): at s = 0 it reconstructs, at s = 1 it is `PromptSwap` without guidance. It
    costs as many network rows as guidance does, and no optimization as null-text inversion.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes each image's
            `edit_text`.
        guidance_scale: s; more changes more.
        strength: share of the sampler's steps that see the new prompt, in (0, 1].
        proximal_quantile: share of the latents' entries, in [0, 1), where the prompts' predictions differ least and the
            source's is kept (proximal guidance, Han et al., arXiv 2306.05414); null guides everywhere.
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 1.5,
        strength: float = 1.0,
        proximal_quantile: float | None = None,
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        if proximal_quantile is not None and not 0 <= proximal_quantile < 1:
            raise InputError(
                f"NegativePrompt: proximal_quantile must lie in [0, 1) or be null, got {proximal_quantile}"
            )
        self.proximal_quantile = proximal_quantile

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples every image from its prompt towards its new one, [B, 3, H, W] in [0, 1]."""
        if self.guidance_scale == 1 and self.proximal_quantile is None:
            return super().edit(model, inversion, requests)  # the source has no say
        sizes = inversion.conditioning.time_ids
        prompts = [request.prompt for request in requests], self.edit_prompts(model, requests)
        branches = [model.encode_prompts(each, time_ids=sizes) for each in prompts]

        def predict(index: int, latents: torch.Tensor) -> torch.Tensor:
            step = inversion.schedule.steps[index]
            source, new = model.predict_branches([step.input_scale * latents] * 2, step.timestep, branches)
            if self.proximal_quantile is not None:
                new = source + proximal(new - source, self.proximal_quantile)
            return guide([source, new], self.guidance_scale)

        return model.decode_latents(walk(inversion, predict, self.strength))


def proximal(difference: torch.Tensor, quantile: float) -> torch.Tensor:
    """Each image's entries [B, C, h, w] whose size is above its `quantile`; the others become 0.

    The proximal operator of λ‖·‖_0, with the λ that leaves that share.
    """
    sizes = difference.abs()
    least = sizes.flatten(1).quantile(quantile, dim=1)
    return torch.where(sizes > least[:, None, None, None], difference, 0.0)
