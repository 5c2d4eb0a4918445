"""Null-text editing: the new prompt, guided away from embeddings that lead back to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from renoise.inversion.null_text import NullTextOptimization

from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, walk
from renoise.models.base import DiffusionModel

from .prompt_swap import PromptSwap


class NullText(PromptSwap):
    """Samples under the new prompt with an unconditional embedding of its own at every step (arXiv 2211.09794).

    Under the image's own prompt these embeddings lead back to the image at the same guidance. They are optimized along
    whatever path the inversion took; only where `--model.inversion null_text` ran with this guidance its own are taken.

    Args:
        replace: words to replace in the prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes each image's
            `edit_text`.
        guidance_scale: how strongly the new prompt pulls; at 1, where the unconditional branch has no say, it is
            `PromptSwap`.
        strength: share of the sampler's steps that see the new prompt, in (0, 1].
        iterations: of the optimization, per step.
        learning_rate: of the optimization.
    """

    def __init__(
        self,
        replace: dict[str, str] | None = None,
        guidance_scale: float = 1.5,
        strength: float = 1.0,
        iterations: int = 10,
        learning_rate: float = 1e-2,
    ) -> None:
        super().__init__(replace, guidance_scale, strength)
        if iterations < 1:
            raise InputError(f"NullText: iterations must be 1 or more, got {iterations}")
        if not 0 < learning_rate < 1:
            raise InputError(f"NullText: learning_rate must lie in (0, 1), got {learning_rate}")
        self.optimization = NullTextOptimization(iterations, learning_rate)
        if guidance_scale != 1:
            self.needs |= {"trajectory"}

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples every image under its new prompt, [B, 3, H, W] in [0, 1]."""
        if self.guidance_scale == 1:
            return super().edit(model, inversion, requests)
        sizes = inversion.conditioning.time_ids
        new = model.encode_prompts(self.edit_prompts(model, requests), self.guidance_scale, time_ids=sizes)
        embeddings = self._embeddings(model, inversion, requests)

        def predict(index: int, latents: torch.Tensor) -> torch.Tensor:
            step = inversion.schedule.steps[index]
            told = replace(new, negative_prompt_embeds=embeddings[index - len(inversion.schedule)])
            return model.predict(step.input_scale * latents, step.timestep, told)

        return model.decode_latents(walk(inversion, predict, self.strength))

    def _embeddings(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """∅_t of every step that is taken, [steps, B, length, D]; the last is that of the schedule's last."""
        if inversion.null_embeddings is not None and inversion.conditioning.guidance_scale == self.guidance_scale:
            return inversion.null_embeddings
        prompts = [request.prompt for request in requests]
        own = model.encode_prompts(prompts, self.guidance_scale, time_ids=inversion.conditioning.time_ids)
        return self.optimization.run(model, inversion, own, self.strength)[0]
