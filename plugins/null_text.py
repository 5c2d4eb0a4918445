"""Null-text editing: guidance away from optimized unconditional embeddings (Mokady et al., arXiv 2211.09794)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from renoise import DiffusionModel, EditRequest, Inversion, NullTextOptimization, PromptEditor, Schedule, walk


class NullText(PromptEditor):
    """Samples under the edit prompt with an optimized unconditional embedding at every step (arXiv 2211.09794).

    Under the image's own prompt and the same guidance scale, these embeddings lead back to the image. The editor
    optimizes them along the trajectory of any inversion. After `NullTextInversion` with the same scale, it uses
    the embeddings of the inversion.

    Args:
        replace: Words to replace in the image's prompt, such as `{cat: dog}`; see `PromptSwap`. Null takes the image's
            `edit_text` as the edit prompt.
        guidance_scale: Guidance scale of the edit prompt, 1 or more. At 1 there is no unconditional branch, and the
            editor equals `PromptSwap`. 0 means 1.
        strength: Share of the sampler's steps to run, in (0, 1].
        iterations: Most iterations of the optimization per step, 1 or more.
        learning_rate: Learning rate of the optimization, in (0, 1).
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
        try:
            self.optimization = NullTextOptimization(iterations, learning_rate)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        if self.guidance_scale != 1:
            self.needs |= {"trajectory", "steps"}

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        """Raises ValueError where no step is run, or no embeddings of an unconditional branch can be optimized."""
        super().check(model, schedule)
        if model.takes_guidance_scale and self.guidance_scale != 1:
            raise ValueError(
                f"{self.name} needs an unconditional branch, and this network takes the guidance scale as an input "
                "instead; use PromptSwap"
            )
        if self.guidance_scale != 1:
            model.check_differentiable(self.name)

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Samples the images under their edit prompts and the optimized embeddings; see `Editor.edit`."""
        if self.guidance_scale == 1:
            return super().edit(model, inversion, requests)
        target = model.encode_prompts(
            self.edit_prompts(model, requests), self.guidance_scale, time_ids=inversion.conditioning.time_ids
        )
        embeddings = self._null_embeddings(model, inversion, requests)
        first_step = len(inversion.schedule) - len(embeddings)

        def predict(position: float, latents: torch.Tensor) -> torch.Tensor:
            step = inversion.schedule.at(position)
            conditioning = dataclasses.replace(target, negative_prompt_embeds=embeddings[int(position) - first_step])
            return model.predict(step.input_scale * latents, step.timestep, conditioning)

        return model.decode_latents(walk(inversion, predict, self.strength))

    def _null_embeddings(
        self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]
    ) -> torch.Tensor:
        """Returns ∅_t of the last steps of the schedule, [steps, B, length, D], at least of those that are run."""
        if inversion.null_embeddings is not None and inversion.conditioning.guidance_scale == self.guidance_scale:
            return inversion.null_embeddings
        source = model.encode_prompts(
            [request.prompt for request in requests], self.guidance_scale, time_ids=inversion.conditioning.time_ids
        )
        embeddings, _ = self.optimization.run(model, inversion, source, self.strength)
        return embeddings
