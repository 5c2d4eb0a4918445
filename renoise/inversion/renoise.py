"""ReNoise inversion: every step of the sampler, from the cleanest to the noisiest, is inverted by Algorithm 1."""

from __future__ import annotations

import torch

from renoise.core.edit_regularization import EditRegularization
from renoise.core.edit_regularizer import EditRegularizer
from renoise.core.fixed_point import Solver, StepEquation
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights, FixedPointIteration, ReNoiseStep
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.progress import track


class ReNoise(Inverter):
    """ReNoise: Real Image Inversion Through Iterative Noising (arXiv 2403.14602).

    Args:
        iterations: K of the paper. A step takes at most K + 1 network calls. 0 is plain reversal of the sampler.
        averaging_weights: Weights of the last estimates of every step (the paper's Table 1). Null takes the last one.
        tolerance: An image stops renoising a step once the sampler's step leaves a relative error of at most this. Null
            never stops early.
        solver: Solver of a step's equation. Null is FixedPointIteration, Algorithm 1.
        regularization: Edit regularization of the predictions (L_edit of the paper). Null leaves them as they are.
        noise_correction: Correction of a stochastic sampler's noise once a step is solved. Null leaves it as drawn.

    Raises:
        ValueError: `iterations` is negative, or `tolerance` is not positive.

    Example:
        >>> import renoise
        >>> inversion = renoise.ReNoise(iterations=4, tolerance=1e-3)
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=inversion)
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).names
        ['00-cat']
    """

    def __init__(
        self,
        iterations: int = 1,
        averaging_weights: AveragingWeights | None = None,
        tolerance: float | None = None,
        solver: Solver | None = None,
        regularization: EditRegularization | None = None,
        noise_correction: NoiseCorrection | None = None,
    ) -> None:
        solver = solver or FixedPointIteration()
        self.step = ReNoiseStep(iterations, averaging_weights, tolerance, solver, noise_correction)
        self.regularization = regularization

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError where there is no noise to correct."""
        if self.step.noise_correction is not None:
            schedule.check_stochastic("noise_correction")

    @torch.no_grad()
    def invert(
        self,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
        keep_trajectory: bool = False,
    ) -> Inversion:
        """Inverts B images; see `Inverter.invert`."""
        run = _Run(self.step, model, schedule, latents, conditioning, rng)
        if self.regularization is not None:
            max_estimates = self.step.iterations + 1
            run.regularizer = EditRegularizer(self.regularization, schedule, max_estimates, latents, rng)
        inversion = run.inversion
        if keep_trajectory:
            inversion.trajectory = torch.full((len(schedule) + 1, *latents.shape), torch.nan).to(latents)
            inversion.trajectory[-1] = latents
        images = torch.arange(len(latents), device=latents.device)
        for step_index in track(range(len(schedule))[::-1], "inverting"):
            if len(images) > 0:
                images = run.invert_step(step_index, images)
                if inversion.trajectory is not None:
                    inversion.trajectory[step_index] = inversion.latents
        return inversion


class _Run:
    """The inversion of one batch. `inversion.latents` goes from z_0 to z_T, step by step."""

    def __init__(
        self,
        renoise_step: ReNoiseStep,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
    ) -> None:
        self.renoise_step = renoise_step
        self.model = model
        self.regularizer: EditRegularizer | None = None
        noise = None
        if schedule.is_stochastic:
            drawn = rng.normal("noise", (len(schedule), *latents.shape[1:]))  # [B, S, C, h, w]
            noise = drawn.transpose(0, 1).to(latents)
        self.inversion = Inversion(
            latents.clone(),
            schedule,
            conditioning,
            noise,
            nfe=torch.zeros(len(latents), dtype=torch.int64, device=latents.device),
            residual=latents.new_zeros(len(latents)),
        )
        if renoise_step.tolerance is not None:
            self.inversion.converged = torch.ones(len(latents), dtype=torch.bool, device=latents.device)

    def invert_step(self, step_index: int, images: torch.Tensor) -> torch.Tensor:
        """Inverts one step of the images at these positions, int64 [n]. Returns the positions that did not fail."""
        inversion = self.inversion
        assert inversion.residual is not None
        equation = self._equation(step_index, images)
        solution, noise = self.renoise_step.invert(equation)
        inversion.latents[images] = solution.latents
        inversion.residual[images] = torch.maximum(inversion.residual[images], solution.residual)
        if inversion.converged is not None and solution.converged is not None:
            inversion.converged[images] &= solution.converged
        if inversion.noise is not None and noise is not None:
            inversion.noise[step_index, images] = noise
        return self._without_failed(step_index, images)

    def _equation(self, step_index: int, images: torch.Tensor) -> StepEquation:
        """Returns the equation of one step. Its index is a position in `images`."""
        inversion, step = self.inversion, self.inversion.schedule.steps[step_index]

        def network(latents: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            """Predicts images by their positions in the batch. A position may occur more than once."""
            conditioning = inversion.conditioning.select(positions)
            inversion.nfe.index_add_(0, positions, torch.full_like(positions, conditioning.nfe))
            return self.model.predict(step.input_scale * latents, step.timestep, conditioning)

        previous = inversion.latents[images]
        noise = None if inversion.noise is None else inversion.noise[step_index, images]
        if self.regularizer is None:
            return StepEquation(
                step,
                previous,
                lambda latents, index: network(latents, images[index]),
                noise,
            )
        regularizer = self.regularizer.at(step_index, images, network)
        return StepEquation(step, previous, regularizer.predict, noise, regularizer.regularize)

    def _without_failed(self, step_index: int, images: torch.Tensor) -> torch.Tensor:
        """Records the images whose latents are no longer finite, and returns the others."""
        inversion = self.inversion
        finite = inversion.latents[images].isfinite().flatten(1).all(dim=1)
        if finite.all():
            return images
        steps = len(inversion.schedule)
        for image in images[~finite].tolist():
            inversion.failures[image] = (
                f"the latents turned NaN or infinite at inversion step {steps - step_index} of {steps} "
                f"(timestep {inversion.schedule.steps[step_index].timestep:g})"
            )
        inversion.latents[images[~finite]] = torch.nan
        return images[finite]
