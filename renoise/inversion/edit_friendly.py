"""Edit-friendly DDPM inversion: independent noisy latents, and the noise that connects them."""

from __future__ import annotations

import torch

from renoise.core.fixed_point import StepEquation
from renoise.core.noise_correction import exact_noise
from renoise.core.renoise import ReNoiseStep
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.inversion.base import Inversion, Inverter
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.progress import track


class EditFriendlyInversion(Inverter):
    """Edit-friendly DDPM inversion (Huberman-Spiegelglas et al., arXiv 2304.06140).

    Every noisy latent is drawn independently, z_t = signal_t · z_0 + sigma_t · n_t. The sampler's noise follows from
    them: ε_t is what makes the step from z_t to z_{t-1} exact. A step takes one network call.

    Args:
        iterations: Renoising iterations of a step that draws no noise, which has to be solved. Ancestral samplers end
            with such a step.

    Example:
        >>> import renoise
        >>> inversion = renoise.EditFriendlyInversion()
        >>> pipeline = renoise.load("data/models/tiny-sd", eta=1.0, num_inference_steps=2, inversion=inversion)
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.noise.shape
        torch.Size([2, 1, 4, 16, 16])
    """

    def __init__(self, iterations: int = 1) -> None:
        self.step = ReNoiseStep(iterations)

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError where the sampler draws no noise."""
        schedule.check_stochastic(type(self).__name__)

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
        drawn = rng.normal("edit-friendly", (len(schedule), *latents.shape[1:]))  # [B, S, C, h, w]
        independent = drawn.transpose(0, 1).to(latents)
        noise = torch.zeros_like(independent)
        nfe = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        residual: torch.Tensor | None = None
        everyone = torch.arange(len(latents), device=latents.device)
        trajectory = [latents]

        def predict(step: Step, estimate: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            nfe[index] += conditioning.nfe
            return model.predict(step.input_scale * estimate, step.timestep, conditioning.select(index))

        for step_index in track(range(len(schedule))[::-1], "inverting"):
            step = schedule.steps[step_index]
            if step.rho == 0:
                equation = StepEquation(
                    step,
                    trajectory[-1],
                    lambda *inputs, step=step: predict(step, *inputs),
                )
                solution, _ = self.step.invert(equation)
                residual = solution.residual if residual is None else torch.maximum(residual, solution.residual)
                trajectory.append(solution.latents)
                continue
            noisy = step.add_noise(latents, independent[step_index])
            noise[step_index] = exact_noise(step, noisy, trajectory[-1], predict(step, noisy, everyone))
            trajectory.append(noisy)
        inversion = Inversion(trajectory[-1], schedule, conditioning, noise, nfe, residual)
        if keep_trajectory:
            inversion.trajectory = torch.stack(trajectory[::-1])
        _record_failures(inversion)
        return inversion


def _record_failures(inversion: Inversion) -> None:
    """Records the images whose noise is not finite."""
    assert inversion.noise is not None
    finite = inversion.noise.isfinite().transpose(0, 1).flatten(1).all(dim=1)  # [B]
    for image in (~finite).nonzero().flatten().tolist():
        inversion.fail(image, "the noise turned NaN or infinite in edit-friendly inversion")
