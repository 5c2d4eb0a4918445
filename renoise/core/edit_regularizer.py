"""Edit regularization of one inversion: its target, its random numbers, and its part of every step."""

from __future__ import annotations

import torch

from renoise.core.edit_regularization import EditRegularization
from renoise.core.fixed_point import Predict
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step


class EditRegularizer:
    """Regularizes the predictions for the B images of one inversion.

    The target of L_patch-KL is the prediction for z'_t, which is z_0 noised to level t with one noise for all levels.

    Args:
        regularization: The losses and their weights.
        schedule: The sampler's steps.
        max_estimates: Most predictions of a step, K + 1.
        latents: z_0, [B, C, h, w].
        rng: Of the target's noise and of the shifts of L_pair.
    """

    def __init__(
        self,
        regularization: EditRegularization,
        schedule: Schedule,
        max_estimates: int,
        latents: torch.Tensor,
        rng: ImageRNG,
    ) -> None:
        self.regularization = regularization
        self.schedule = schedule
        self.latents = latents
        self.target_noise: torch.Tensor | None = None
        if regularization.needs_target:
            self.target_noise = rng.normal("patch-KL target", latents.shape[1:]).to(latents)
        shape = (len(schedule), max_estimates, *regularization.uniform_shape(*latents.shape[-2:]))
        # [S, K + 1, num_reg_steps, num_ac_rolls, L, 2, B]: the images last, as `regularize` takes them
        self.uniform = rng.uniform("shifts", shape).movedim(0, -1).to(latents.device)

    def at(self, step_index: int, images: torch.Tensor, network: Predict) -> StepRegularizer:
        """Returns the regularizer of one step.

        Args:
            step_index: Position of the step in the schedule.
            images: Positions in the batch of the images to invert, int64 [n].
            network: Predicts images by their positions in the batch. A position may come twice.
        """
        return StepRegularizer(self, step_index, images, network)


class StepRegularizer:
    """The functions `predict` and `regularize` of one step's equation. Their `index` is a position in `images`."""

    def __init__(self, parent: EditRegularizer, step_index: int, images: torch.Tensor, network: Predict) -> None:
        self.step: Step = parent.schedule.steps[step_index]
        self.regularization = parent.regularization
        self.images = images
        self.network = network
        self.uniform = parent.uniform[step_index][..., images]
        self.target: torch.Tensor | None = None
        self.noised: torch.Tensor | None = None
        if parent.target_noise is not None and self.step.takes_regularization:
            self.noised = self.step.add_noise(parent.latents[images], parent.target_noise[images])

    def predict(self, latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Calls the network. The first call, which has all images, also makes the prediction for the noised images."""
        images = self.images[index]
        if self.noised is None or self.target is not None:
            return self.network(latents, images)
        both = self.network(torch.cat([latents, self.noised]), torch.cat([images, self.images]))
        prediction, target = both.tensor_split([len(latents)])
        self.target = self.step.predicted_noise(self.noised, target)
        return prediction

    def regularize(self, prediction: torch.Tensor, latents: torch.Tensor, index: torch.Tensor, k: int) -> torch.Tensor:
        """Regularizes the noise that a prediction implies, and returns the prediction that implies the result."""
        if not self.step.takes_regularization:
            return prediction
        noise = self.regularization.regularize(
            self.step.predicted_noise(latents, prediction),
            None if self.target is None else self.target[index],
            self.uniform[k][..., index],
        )
        regularized: torch.Tensor = self.step.prediction_of_noise(latents, noise).to(prediction.dtype)
        return regularized
