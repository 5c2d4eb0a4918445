"""Edit-friendly DDPM inversion (Huberman-Spiegelglas et al., arXiv 2304.06140).

Every noisy latent is drawn by itself, z_t = signal_t · z_0 + sigma_t · n_t with independent n_t, and the sampler's
noise is solved for: ε_t is what makes the step from z_t to z_{t-1} exact, as in noise correction's `override`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from renoise.core import rng
from renoise.core.noise_correction import exact_noise
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.inversion.base import Inversion
from renoise.models.base import Conditioning, DiffusionModel


@dataclass(frozen=True)
class EditFriendlyInverter:
    """Inverts batches under a sampler that draws noise.

    Args:
        model: the model.
        schedule: its sampler's steps.
        renoising: how a step without noise is solved; ancestral samplers end with one.
        seed: of the noisy latents.
        keep_trajectory: whether the inversion keeps every noisy latent.

    Raises:
        InputError: the sampler draws no noise at all.
    """

    model: DiffusionModel
    schedule: Schedule
    renoising: Renoising
    seed: int = 0
    keep_trajectory: bool = False

    def __post_init__(self) -> None:
        self.schedule.check_stochastic("model.inversion edit_friendly")

    @torch.no_grad()
    def invert(self, latents: torch.Tensor, conditioning: Conditioning, images: Sequence[str]) -> Inversion:
        """Inverts B images at once; arguments as of `Inverter.invert`. One network row per step and image."""
        drawn = rng.normal(self.seed, "edit-friendly", images, (len(self.schedule), *latents.shape[1:]))
        independent = drawn.transpose(0, 1).to(latents)
        noise = torch.zeros_like(independent)
        rows = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        everyone = torch.arange(len(latents), device=latents.device)
        trajectory = [latents]

        def predict(step: Step, estimate: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
            rows[images] += conditioning.nfe
            return self.model.predict(step.input_scale * estimate, step.timestep, conditioning.select(images))

        for index in reversed(range(len(self.schedule))):
            step, previous = self.schedule.steps[index], trajectory[-1]
            if step.rho == 0:
                trajectory.append(self.renoising.solve(step, previous, partial(predict, step)))
                continue
            noisy = step.add_noise(latents, independent[index])
            noise[index] = exact_noise(step, noisy, previous, predict(step, noisy, everyone))
            trajectory.append(noisy)
        result = Inversion(trajectory[-1], self.schedule, conditioning, noise, rows)
        if self.keep_trajectory:
            result.trajectory = torch.stack(trajectory[::-1])
        for row in (~noise.isfinite().transpose(0, 1).flatten(1).all(dim=1)).nonzero().flatten().tolist():
            result.failures[row] = "the noise turned NaN or infinite in edit-friendly inversion"
            result.latents[row] = torch.nan
        return result
