"""An inversion, and what an inversion method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.configurable import Configurable


class Sampler(Protocol):
    """The sampler of an inversion method that does not take the steps of the schedule, such as EDICT's."""

    def sample(
        self,
        inversion: Inversion,
        predict: Callable[[float, torch.Tensor], torch.Tensor],
        strength: float = 1.0,
    ) -> torch.Tensor:
        """Runs it from z_T to z_0; see `walk`, which calls this."""


@dataclass
class Inversion:
    """The inversion of B images: all that sampling needs to reconstruct them or to edit them.

    Images listed in `failures` are NaN in every tensor.

    Args:
        latents: z_T, [B, C, h, w]. Noise of standard deviation `schedule.init_noise_sigma` in a good inversion.
        schedule: The sampler's S steps.
        conditioning: Of the prompts, at the guidance scale of the inversion.
        noise: ε_t of every step, noisiest first, [S, B, C, h, w]. None for a deterministic sampler.
        nfe: Number of function evaluations that each image took, int64 [B].
        residual: Largest residual over the steps that were solved, [B], see `Solution.residual`. None where the method
            solves no equation.
        step_residuals: Residual of every step of the inversion, noisiest first, [N, B]; NaN where a step was drawn and
            not solved. None as `residual`.
        converged: Whether every step reached the tolerance, bool [B]. None where no tolerance was given.
        fell_back: Whether an accelerated solver had to renoise plainly in any step, bool [B]. None for other solvers.
        failures: What went wrong, by position in the batch.
        trajectory: z_T … z_0 as the inversion found them, [S + 1, B, C, h, w]. None where it was not kept.
        follows_trajectory: Whether reconstruction takes its latents from the trajectory, as in direct inversion.
        null_embeddings: Unconditional embeddings of every step that replace those of `conditioning`,
            [S, B, length, D]. Of null-text inversion.
        companion: The second latents of a method that couples two, such as EDICT: of z_T, [1, B, C, h, w], or of the
            whole trajectory where it was kept, [S + 1, B, C, h, w]. z_0 of RFInversion, [1, B, C, h, w].
        sampler: What samples instead of the steps of `schedule`. None where they do, as in most methods.
        num_inversion_steps: Number of steps of the inversion, where they are not those of `schedule`. None where they
            are.
        image: z_0 of the images, [B, C, h, w]. None where it was not kept.
        region: Where an edit may change the latents, bool [B, 1, h, w]. None is everywhere. Outside, `denoise` takes
            the latents of the trajectory, which must have been kept.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> latents = pipeline.model.encode_images(torch.rand(1, 3, 64, 64))
        >>> inversion = pipeline.invert_latents(latents, pipeline.model.encode_prompts(["a cat"]), names=["cat"])
        >>> inversion.nfe
        tensor([4])
    """

    latents: torch.Tensor
    schedule: Schedule
    conditioning: Conditioning
    noise: torch.Tensor | None = None
    nfe: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    residual: torch.Tensor | None = None
    step_residuals: torch.Tensor | None = None
    converged: torch.Tensor | None = None
    fell_back: torch.Tensor | None = None
    failures: dict[int, str] = field(default_factory=dict)
    trajectory: torch.Tensor | None = None
    follows_trajectory: bool = False
    null_embeddings: torch.Tensor | None = None
    companion: torch.Tensor | None = None
    sampler: Sampler | None = None
    num_inversion_steps: int | None = None
    image: torch.Tensor | None = None
    region: torch.Tensor | None = None

    def select(self, index: Sequence[int]) -> Inversion:
        """Returns the inversion of the images at these positions of the batch."""
        images = torch.tensor(index, dtype=torch.int64, device=self.latents.device)
        return replace(
            self,
            latents=self.latents[images],
            conditioning=self.conditioning.select(images),
            noise=None if self.noise is None else self.noise[:, images],
            nfe=self.nfe[images],
            residual=None if self.residual is None else self.residual[images],
            step_residuals=None if self.step_residuals is None else self.step_residuals[:, images],
            converged=None if self.converged is None else self.converged[images],
            fell_back=None if self.fell_back is None else self.fell_back[images],
            failures={new: self.failures[old] for new, old in enumerate(index) if old in self.failures},
            trajectory=None if self.trajectory is None else self.trajectory[:, images],
            null_embeddings=None if self.null_embeddings is None else self.null_embeddings[:, images],
            companion=None if self.companion is None else self.companion[:, images],
            image=None if self.image is None else self.image[images],
            region=None if self.region is None else self.region[images],
        )

    def fail(self, image: int, problem: str) -> None:
        """Records that an image could not be inverted, and makes its tensors NaN.

        Args:
            image: Position in the batch.
            problem: What went wrong.
        """
        self.failures[image] = problem
        self.latents[image] = torch.nan
        for kept in (self.noise, self.trajectory, self.companion):
            if kept is not None:
                kept[:, image] = torch.nan

    def start(self, strength: float = 1.0) -> tuple[range, torch.Tensor]:
        """Returns the positions in `schedule` of the steps to take, and the latents to start from.

        Args:
            strength: Share of the steps to take, in [0, 1]. Below 1, sampling starts at a cleaner level of the
                trajectory, which the inversion must have kept.

        Raises:
            ValueError: `strength` is below 1, and the inversion has no trajectory.
        """
        steps = len(self.schedule)
        first = steps - round(strength * steps)
        if first == 0:
            return range(steps), self.latents
        if self.trajectory is None:
            raise ValueError(
                f"strength {strength:g} needs an inversion that kept its trajectory (keep_trajectory=True)"
            )
        return range(first, steps), self.trajectory[first]

    def conditioning_at(self, position: float) -> Conditioning:
        """Returns the conditioning of the reconstruction at a position; see `Schedule.at`."""
        if self.null_embeddings is None:
            return self.conditioning
        return replace(self.conditioning, negative_prompt_embeds=self.null_embeddings[int(position)])

    def denoise(self, step_index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Takes one step of the sampler with the inversion's own noise.

        Outside of `region`, z_{t-1} is that of the trajectory.

        Args:
            step_index: Position of the step in `schedule`.
            latents: z_t, [B, C, h, w].
            prediction: The network's output at z_t.

        Returns:
            z_{t-1}, [B, C, h, w].

        Raises:
            ValueError: The inversion has a sampler of its own. `walk` runs it.
        """
        if self.sampler is not None:
            raise ValueError(f"{type(self.sampler).__name__} has a sampler of its own, which only walk and sample run")
        noise = None if self.noise is None else self.noise[step_index]
        denoised = self.schedule.steps[step_index].denoise(latents, prediction, noise)
        if self.region is None:
            return denoised
        assert self.trajectory is not None
        return torch.where(self.region, denoised, self.trajectory[step_index + 1])

    def denoise_reference(self, step_index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Takes one step of the reconstruction: `denoise`, or the trajectory where the inversion follows it."""
        if self.follows_trajectory:
            assert self.trajectory is not None
            return self.trajectory[step_index + 1]
        return self.denoise(step_index, latents, prediction)


class Inverter(Configurable, ABC):
    """An inversion method. Its typed constructor arguments are its options on the command line.

    It is registered under the entry-point group `renoise.inversions`; docs/plugins.md has a complete example.

    Example:
        >>> from renoise import Inverter, ReNoise
        >>> isinstance(ReNoise(iterations=4), Inverter)
        True
    """

    needs_same_steps: bool = False
    """Whether images can only be sampled in the steps of the inversion, which has more than z_T even under a
    deterministic sampler: a trajectory that is followed, embeddings of every step, a sampler of its own."""

    @property
    def sampler(self) -> Sampler | None:
        """What samples this method's inversions instead of the steps of the schedule. None where they do."""
        return None

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Checks the method's requirements before any image is read. The base class has none.

        Args:
            model: The model.
            schedule: The steps of the inversion, and of the sampler unless `num_inversion_steps` is another number.
            guidance_scale: Guidance during inversion and reconstruction.

        Raises:
            ValueError: The method cannot work with one of them.
        """

    @abstractmethod
    def invert(
        self,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
        keep_trajectory: bool = False,
    ) -> Inversion:
        """Inverts B images. The result for an image does not depend on the other images of the batch.

        Args:
            model: The model.
            schedule: The S steps of the inversion.
            latents: z_0, [B, C, h, w], as `DiffusionModel.encode_images` returns them.
            conditioning: Of the B prompts.
            rng: Source of all random numbers.
            keep_trajectory: Whether the inversion keeps the latents of every level.
        """


def record_failures(inversion: Inversion) -> None:
    """Records the images whose latents are not finite. Once they are not, they never are at a noisier level."""
    finite = inversion.latents.isfinite().flatten(1).all(dim=1)
    if inversion.companion is not None:
        finite &= inversion.companion[0].isfinite().flatten(1).all(dim=1)
    for image in (~finite).nonzero().flatten().tolist():
        inversion.fail(image, f"the latents turned NaN or infinite in {type(inversion.sampler).__name__}")
