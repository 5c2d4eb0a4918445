"""Edit enhancement of one inversion: the edit losses with what they need from images, levels and random rng."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from renoise.core import rng
from renoise.core.edit_regularization import EditRegularization
from renoise.core.schedule import Schedule
from renoise.core.step import Step

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(latents [n, C, h, w], rows int64 [n]) -> ε_θ; `rows` are images of the batch, of which one may come twice."""


class EditEnhancement:
    """What the losses draw and aim at for the B images of one inversion.

    The target of patch-KL is the prediction for z'_t, which is z_0 noised to level t with one noise for all levels.
    That noise and the shifts of the pairwise loss come from streams of their own.

    Args:
        losses: which, and how strong.
        schedule: the sampler's steps.
        estimates: K + 1, the most predictions that a step can regularize.
        seed: of the rng.
        latents: z_0, [B, C, h, w].
        images: B names, which the streams belong to.
    """

    def __init__(
        self,
        losses: EditRegularization,
        schedule: Schedule,
        estimates: int,
        seed: int,
        latents: torch.Tensor,
        images: Sequence[str],
    ) -> None:
        self.losses, self.schedule = losses, schedule
        self.clean = latents
        self.target_noise: torch.Tensor | None = None
        if losses.needs_target:
            self.target_noise = rng.normal(seed, "patch-KL target", images, latents.shape[1:]).to(latents)
        shape = (len(schedule), estimates, *losses.draws(*latents.shape[-2:]))
        self.uniform = rng.uniform(seed, "shifts", images, shape).movedim(0, -1).to(latents.device)

    def at(self, index: int, alive: torch.Tensor, network: Network) -> StepEnhancement:
        """Of step `index` of the schedule, for the images `alive`, int64 [n], predicted by `network`."""
        return StepEnhancement(self, index, alive, network)


class StepEnhancement:
    """The solver's `predict` and `regularize` at one step; rows are positions in `alive`."""

    def __init__(self, of: EditEnhancement, index: int, alive: torch.Tensor, network: Network) -> None:
        self.step: Step = of.schedule.steps[index]
        self.losses, self.alive, self.network = of.losses, alive, network
        self.noised: torch.Tensor | None = None
        if of.target_noise is not None and self.step.noise_from_prediction != 0:
            self.noised = self.step.add_noise(of.clean[alive], of.target_noise[alive])
        self.target: torch.Tensor | None = None
        self.uniform = of.uniform[index][..., alive]

    def predict(self, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """ε_θ; the target's rows ride along with the first call, in which all images take part."""
        images = self.alive[rows]
        if self.noised is None or self.target is not None:
            return self.network(latents, images)
        both = self.network(torch.cat([latents, self.noised]), torch.cat([images, self.alive]))
        prediction, target = both.tensor_split([len(latents)])
        self.target = self.step.predicted_noise(self.noised, target)
        return prediction

    def regularize(self, prediction: torch.Tensor, latents: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
        """The prediction after the losses have moved the noise that it sees; v stays v."""
        if self.step.noise_from_prediction == 0:
            return prediction  # the level is pure noise, of which the prediction says nothing
        noise = self.losses.regularize(
            self.step.predicted_noise(latents, prediction),
            None if self.target is None else self.target[rows],
            self.uniform[k][..., rows],
        )
        regularized: torch.Tensor = self.step.prediction_of_noise(latents, noise).to(prediction.dtype)
        return regularized
