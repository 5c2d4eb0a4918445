"""The inversion of one batch by ReNoise, step by step."""

from __future__ import annotations

import torch

from renoise.core.budget import CallBudget
from renoise.core.edit_regularization import EditRegularization
from renoise.core.edit_regularizer import EditRegularizer
from renoise.core.fixed_point import Predict, StepEquation
from renoise.core.noise_correction import exact_noise
from renoise.core.posterior import draw_latents
from renoise.core.renoise import ReNoiseStep
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.warm_start import WarmStart
from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


class RenoiseRun:
    """The inversion of B images. `inversion.latents` goes from z_0 to z_T.

    Args:
        renoise_step: How a step is solved.
        model: The model.
        schedule: Its sampler's steps.
        latents: z_0, [B, C, h, w].
        conditioning: Of the B prompts.
        rng: Source of all random numbers.
    """

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
        self.image = latents
        self.rng = rng
        self.everyone = torch.arange(len(latents), device=latents.device)
        self.failed_at = torch.full_like(self.everyone, -1)  # index of the step at which an image failed
        self.regularizer: EditRegularizer | None = None
        self.warm_start: WarmStart | None = None
        self.budget: CallBudget | None = None
        noise = None
        if schedule.is_stochastic:
            drawn = rng.normal("noise", (len(schedule), *latents.shape[1:]))  # [B, S, C, h, w]
            noise = drawn.transpose(0, 1).to(latents)
        self.inversion = Inversion(
            latents,
            schedule,
            conditioning,
            noise,
            nfe=torch.zeros_like(self.everyone),
            residual=latents.new_zeros(len(latents)),
            step_residuals=latents.new_full((len(schedule), len(latents)), torch.nan),
        )

    def regularize(self, regularization: EditRegularization) -> None:
        """Regularizes the predictions of the steps that are solved."""
        estimates = self.renoise_step.max_estimates
        schedule = self.inversion.schedule
        self.regularizer = EditRegularizer(regularization, schedule, estimates, self.image, self.rng)

    def start_warm(self, order: int) -> None:
        """Starts every step but the first at a warm start of this order; see `WarmStart`."""
        self.warm_start = WarmStart(order)

    def keep_trajectory(self) -> None:
        """Keeps the latents of every level."""
        trajectory = self.image.new_full((len(self.inversion.schedule) + 1, *self.image.shape), torch.nan)
        trajectory[-1] = self.image
        self.inversion.trajectory = trajectory

    def solve_step(self, step_index: int) -> None:
        """Inverts one step by Algorithm 1."""
        inversion = self.inversion
        equation = self._equation(step_index)
        stop = None if self.budget is None else self.budget.stop(equation.step)
        solution, noise = self.renoise_step.invert(equation, stop)
        if self.budget is not None:
            self.budget.spend(solution)
        if self.warm_start is not None:
            self.warm_start.record(equation.step, equation.previous, solution.latents, equation.noise)
        assert inversion.residual is not None
        assert inversion.step_residuals is not None
        inversion.step_residuals[step_index] = solution.residual
        inversion.residual = torch.maximum(inversion.residual, solution.residual)
        if solution.converged is not None:
            before = True if inversion.converged is None else inversion.converged
            inversion.converged = solution.converged & before
        if solution.fell_back is not None:
            before = False if inversion.fell_back is None else inversion.fell_back
            inversion.fell_back = solution.fell_back | before
        self._advance(step_index, solution.latents, noise)

    def draw_step(self, step_index: int, temperature: float) -> None:
        """Inverts one step that draws noise by drawing its latents, at a temperature; see `draw_latents`."""
        inversion, step = self.inversion, self.inversion.schedule.steps[step_index]
        assert inversion.noise is not None
        latents = draw_latents(step, inversion.latents, self.image, temperature * inversion.noise[step_index])
        prediction = self._network(step_index)(latents, self.everyone)
        self._advance(step_index, latents, exact_noise(step, latents, inversion.latents, prediction))

    def finish(self) -> Inversion:
        """Returns the inversion, with what went wrong."""
        inversion = self.inversion
        steps = len(inversion.schedule)
        for image, step_index in enumerate(self.failed_at.tolist()):
            if step_index >= 0:
                inversion.fail(
                    image,
                    f"the latents turned NaN or infinite at inversion step {steps - step_index} of {steps} "
                    f"(timestep {inversion.schedule.steps[step_index].timestep:g})",
                )
        return inversion

    def _advance(self, step_index: int, latents: torch.Tensor, noise: torch.Tensor | None) -> None:
        """Takes what a step has found. Images that failed are carried along: to ask each time would make a GPU wait."""
        inversion = self.inversion
        inversion.latents = latents
        if inversion.noise is not None and noise is not None:
            inversion.noise[step_index] = noise
        if inversion.trajectory is not None:
            inversion.trajectory[step_index] = latents
        failed = ~latents.isfinite().flatten(1).all(dim=1)
        if noise is not None:  # drawn latents stay finite where the prediction, and so the noise, does not
            failed |= ~noise.isfinite().flatten(1).all(dim=1)
        self.failed_at = torch.where(failed & (self.failed_at < 0), step_index, self.failed_at)

    def _network(self, step_index: int) -> Predict:
        """Returns the network at one step. It predicts images by their positions, of which any may occur twice."""
        inversion, step = self.inversion, self.inversion.schedule.steps[step_index]

        def network(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            conditioning = inversion.conditioning.select(index)
            inversion.nfe.index_add_(0, index, torch.full_like(index, conditioning.nfe))
            return self.model.predict(step.input_scale * latents, step.timestep, conditioning)

        return network

    def _equation(self, step_index: int) -> StepEquation:
        inversion, step = self.inversion, self.inversion.schedule.steps[step_index]
        noise = None if inversion.noise is None else inversion.noise[step_index]
        start = None if self.warm_start is None else self.warm_start.start(step, inversion.latents, noise)
        network = self._network(step_index)
        if self.regularizer is None:
            return StepEquation(step, inversion.latents, network, noise, warm_start=start)
        regularizer = self.regularizer.at(step_index, self.everyone, network)
        return StepEquation(step, inversion.latents, regularizer.predict, noise, regularizer.regularize, start)
