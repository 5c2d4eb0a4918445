"""Image latents and prompts in, inversion out, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from renoise.core import rng
from renoise.core.edit_regularization import EditRegularization
from renoise.core.edit_regularizer import EditEnhancement
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.models.base import Conditioning, DiffusionModel


@dataclass
class Inversion:
    """What the inversion of B images leaves behind: all that sampling needs to come back to them, or to edit them.

    Rows of images in `failures` hold NaN.
    """

    latents: torch.Tensor
    """z_T, [B, C, h, w]; noise of standard deviation `schedule.init_noise_sigma` where the inversion is good."""
    schedule: Schedule
    conditioning: Conditioning
    """Of the prompts, at the guidance scale that the images were inverted with."""
    noise: torch.Tensor | None = None
    """ε_t of every step of `schedule`, noisiest first, [S, B, C, h, w]; None for deterministic samplers."""
    nfe: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    """Rows that each image took in the network, int64 [B]."""
    failures: dict[int, str] = field(default_factory=dict)
    """What went wrong, by position in the batch."""
    trajectory: torch.Tensor | None = None
    """z_T … z_0 as the inversion found them, [S + 1, B, C, h, w]; None where nobody asked for it."""
    follows_trajectory: bool = False
    """Whether the way back is put right by the trajectory after every step, as in direct inversion."""
    null_embeddings: torch.Tensor | None = None
    """What the unconditional branch is told at every step in place of `conditioning`, [S, B, length, D]; of null-text
    inversion."""

    def select(self, rows: Sequence[int]) -> Inversion:
        """The inversion of some images of the batch."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.latents.device)
        return Inversion(
            latents=self.latents[index],
            schedule=self.schedule,
            conditioning=self.conditioning.select(index),
            noise=None if self.noise is None else self.noise[:, index],
            nfe=self.nfe[index],
            failures={new: self.failures[old] for new, old in enumerate(rows) if old in self.failures},
            trajectory=None if self.trajectory is None else self.trajectory[:, index],
            follows_trajectory=self.follows_trajectory,
            null_embeddings=None if self.null_embeddings is None else self.null_embeddings[:, index],
        )

    def start(self, strength: float = 1.0) -> tuple[range, torch.Tensor]:
        """The positions in `schedule` of the steps to take, and the latents to take them from.

        Args:
            strength: share of the steps to take, in [0, 1]; below 1 sampling begins at a cleaner level of the
                trajectory, which the inversion must have kept.
        """
        steps = len(self.schedule)
        first = steps - round(strength * steps)
        if first == 0:
            return range(steps), self.latents
        if self.trajectory is None:
            raise ValueError("a strength below 1 needs an inversion that kept its trajectory")
        return range(first, steps), self.trajectory[first]

    def conditioning_at(self, index: int) -> Conditioning:
        """What the network is told at a step on the way back to the images."""
        if self.null_embeddings is None:
            return self.conditioning
        return replace(self.conditioning, negative_prompt_embeds=self.null_embeddings[index])

    def denoise(self, index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """z_{t-1} of a step, [B, C, h, w], with the inversion's own noise."""
        noise = None if self.noise is None else self.noise[index]
        return self.schedule.steps[index].denoise(latents, prediction, noise)

    def denoise_reference(self, index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """The same on the way back to the images, put right by the trajectory where the inversion keeps to it."""
        if self.follows_trajectory:
            assert self.trajectory is not None
            return self.trajectory[index + 1]
        return self.denoise(index, latents, prediction)


@dataclass(frozen=True)
class Inverter:
    """ReNoise inversion of batches: each step of the sampler, cleanest to noisiest, solved by renoising.

    Args:
        model: the model.
        schedule: its sampler's steps.
        renoising: how each step is solved.
        edit_losses: what predictions are regularized by; None leaves them as they are.
        noise_correction: what becomes of a stochastic sampler's noise once a step is solved.
        seed: of everything random. The noise of the steps, the noise of the patch-KL target and the shifts of the
            pairwise loss are streams of their own: no setting of one changes the others.
        keep_trajectory: whether the inversion keeps the latents of every level.
    """

    model: DiffusionModel
    schedule: Schedule
    renoising: Renoising
    edit_losses: EditRegularization | None = None
    noise_correction: NoiseCorrection = field(default_factory=NoiseCorrection)
    seed: int = 0
    keep_trajectory: bool = False

    @torch.no_grad()
    def invert(self, latents: torch.Tensor, conditioning: Conditioning, images: Sequence[str]) -> Inversion:
        """Inverts B images at once; what comes out for an image does not depend on its neighbors.

        Args:
            latents: z_0, [B, C, h, w], as `DiffusionModel.encode_images` gives them.
            conditioning: of the B prompts.
            images: B names, which everything random is drawn by.
        """
        steps = len(self.schedule)
        noise = None
        if self.schedule.is_stochastic:
            drawn = rng.normal(self.seed, "noise", images, (steps, *latents.shape[1:]))
            noise = drawn.transpose(0, 1).to(latents)
        result = Inversion(latents.clone(), self.schedule, conditioning, noise)
        result.nfe = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        alive = torch.arange(len(latents), device=latents.device)
        enhancement = None
        if self.edit_losses is not None:
            estimates = self.renoising.iterations + 1
            enhancement = EditEnhancement(self.edit_losses, self.schedule, estimates, self.seed, latents, images)
        if self.keep_trajectory:
            result.trajectory = torch.full((steps + 1, *latents.shape), torch.nan).to(latents)
            result.trajectory[steps] = latents
        for index in reversed(range(steps)):
            if len(alive) == 0:
                break
            result.latents[alive] = self._invert_step(index, alive, result, enhancement)
            alive = self._drop_failed(index, alive, result)
            if result.trajectory is not None:
                result.trajectory[index] = result.latents
        return result

    def _invert_step(
        self, index: int, alive: torch.Tensor, result: Inversion, enhancement: EditEnhancement | None
    ) -> torch.Tensor:
        """z_t of the images `alive`, int64 [n], from their z_{t-1} in `result`; their noise there is corrected."""
        step = self.schedule.steps[index]

        def network(latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            """ε_θ of images of the batch, of which one may come twice."""
            conditioning = result.conditioning.select(rows)
            result.nfe.index_add_(0, rows, torch.full_like(rows, conditioning.nfe))
            return self.model.predict(step.input_scale * latents, step.timestep, conditioning)

        previous = result.latents[alive]
        noise = None if result.noise is None else result.noise[index, alive]
        if enhancement is None:
            latents = self.renoising.solve(step, previous, lambda estimate, rows: network(estimate, alive[rows]), noise)
        else:
            enhanced = enhancement.at(index, alive, network)
            latents = self.renoising.solve(step, previous, enhanced.predict, noise, enhanced.regularize)
        corrected = self.noise_correction.correct(
            step, latents, previous, noise, lambda latents: network(latents, alive)
        )
        if result.noise is not None and corrected is not None:
            result.noise[index, alive] = corrected
        return latents

    def _drop_failed(self, index: int, alive: torch.Tensor, result: Inversion) -> torch.Tensor:
        """Notes the images whose latents are no longer finite, and returns the others."""
        finite = result.latents[alive].isfinite().flatten(1).all(dim=1)
        if finite.all():
            return alive
        for row in alive[~finite].tolist():
            step = self.schedule.steps[index]
            result.failures[row] = (
                f"the latents turned NaN or infinite at inversion step {len(self.schedule) - index} of "
                f"{len(self.schedule)} (timestep {step.timestep:g})"
            )
        result.latents[alive[~finite]] = torch.nan
        return alive[finite]


@torch.no_grad()
def sample(
    model: DiffusionModel, inversion: Inversion, conditioning: Conditioning | None = None, strength: float = 1.0
) -> torch.Tensor:
    """The sampler from z_T down to z_0, [B, C, h, w], with the inversion's own noise.

    Under the inversion's conditioning (None) it reconstructs the images; under another it edits them.

    Args:
        model: the model that the images were inverted with.
        inversion: of B images.
        conditioning: of B prompts.
        strength: see `Inversion.start`.
    """
    if conditioning is None and inversion.follows_trajectory:
        assert inversion.trajectory is not None
        return inversion.trajectory[-1]  # whatever the network said, each step ends there

    def predict(index: int, latents: torch.Tensor) -> torch.Tensor:
        step = inversion.schedule.steps[index]
        told = inversion.conditioning_at(index) if conditioning is None else conditioning
        return model.predict(step.input_scale * latents, step.timestep, told)

    return walk(inversion, predict, strength)


@torch.no_grad()
def walk(
    inversion: Inversion, predict: Callable[[int, torch.Tensor], torch.Tensor], strength: float = 1.0
) -> torch.Tensor:
    """The sampler from z_T down to z_0, [B, C, h, w], with the inversion's own noise, under any prediction.

    Args:
        inversion: of B images.
        predict: (position of a step in the schedule, z_t [B, C, h, w]) -> ε_θ, of the same shape.
        strength: see `Inversion.start`.
    """
    steps, latents = inversion.start(strength)
    for index in steps:
        latents = inversion.denoise(index, latents, predict(index, latents))
    return latents
