"""Inversion methods that integrate the ODE of flow matching, dz/dσ = v(z, σ), in both directions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter, record_failures
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.progress import track

Velocity = Callable[[float, torch.Tensor], torch.Tensor]
"""(position in the schedule, see `Schedule.at`; latents [B, C, h, w]) -> v there, of the same shape."""


class FlowInversion(Inverter):
    """Base of the methods with an explicit ODE solver for flow matching.

    The solver goes from z_0 to z_T, and another time from z_T to z_0. It solves no equation: the round trip is as exact
    as the solver. A subclass gives the solver.

    Example:
        >>> import renoise
        >>> from renoise.inversion.flow import FlowInversion
        >>> method = renoise.RFSolver()
        >>> isinstance(method, FlowInversion), method.sampler is method
        (True, True)
    """

    needs_same_steps = True

    @property
    def sampler(self) -> FlowInversion:
        """The method itself: it samples as it inverts."""
        return self

    @abstractmethod
    def solve(
        self, schedule: Schedule, positions: Sequence[int], latents: torch.Tensor, velocity: Velocity
    ) -> Iterator[torch.Tensor]:
        """Solves the ODE from level to level.

        Args:
            schedule: The S steps. Position i is the level of its step i, and position S is the image.
            positions: Of the levels to pass, in either direction.
            latents: At the first of them, [B, C, h, w].
            velocity: Calls the network.

        Yields:
            The latents at each of the other positions.
        """

    def invert_velocity(self, schedule: Schedule, velocity: Velocity, latents: torch.Tensor, rng: ImageRNG) -> Velocity:
        """Returns the velocity to invert under. The base class takes the network's.

        Args:
            schedule: The S steps.
            velocity: The network's.
            latents: z_0, [B, C, h, w].
            rng: Source of random numbers.
        """
        return velocity

    def sample_velocity(self, velocity: Velocity, inversion: Inversion) -> Velocity:
        """Returns the velocity to sample under. The base class takes the network's."""
        return velocity

    def companion(self, latents: torch.Tensor) -> torch.Tensor | None:
        """Returns what sampling needs of z_0 as `Inversion.companion`, [1, B, C, h, w]. None where it needs nothing."""
        return None

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError where the model is not of flow matching, or the sampler draws noise."""
        name = type(self).__name__
        if not schedule.steps[0].flow:
            raise ValueError(f"{name} needs a flow-matching model, and this one is not; take ReNoise or DDIM")
        if schedule.is_stochastic:
            raise ValueError(
                f"{name} needs a sampler that draws no noise; set scheduler_options.stochastic_sampling to false, or "
                "take ReNoise"
            )

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
        nfe = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)

        def velocity(position: float, noisy: torch.Tensor) -> torch.Tensor:
            nfe.add_(conditioning.nfe)
            return model.predict(noisy, schedule.at(position).timestep, conditioning)

        positions = range(len(schedule), -1, -1)
        solver = self.solve(schedule, positions, latents, self.invert_velocity(schedule, velocity, latents, rng))
        levels = [latents]
        for _ in track(positions[1:], "inverting"):
            levels = [*(levels if keep_trajectory else []), next(solver)]
        inversion = Inversion(
            levels[-1].clone(), schedule, conditioning, nfe=nfe, companion=self.companion(latents), sampler=self
        )
        if keep_trajectory:
            inversion.trajectory = torch.stack(levels[::-1])
        record_failures(inversion)
        return inversion

    @torch.no_grad()
    def sample(self, inversion: Inversion, predict: Velocity, strength: float = 1.0) -> torch.Tensor:
        """Runs the solver from z_T to z_0 under any prediction; see `walk`, which calls it."""
        steps, latents = inversion.start(strength)
        positions = range(steps.start, len(inversion.schedule) + 1)
        solver = self.solve(inversion.schedule, positions, latents, self.sample_velocity(predict, inversion))
        for _ in track(steps, "sampling"):
            latents = next(solver)
        return latents


class MidpointInversion(FlowInversion):
    """Base of the second-order methods, which step with the velocity v_m at the middle of a step.

    z_m = z + (σ_m − σ) v and z' = z + (σ' − σ) v_m, with v at the start of the step and σ_m halfway to σ'. The error
    falls as 1/N².

    Example:
        >>> import renoise
        >>> from renoise.inversion.flow import MidpointInversion
        >>> issubclass(renoise.FireFlow, MidpointInversion), issubclass(renoise.RFSolver, MidpointInversion)
        (True, True)
    """

    reuses_midpoint: ClassVar[bool]
    """Whether v_m serves as v of the next step, which then takes one network call and not two."""

    def solve(
        self, schedule: Schedule, positions: Sequence[int], latents: torch.Tensor, velocity: Velocity
    ) -> Iterator[torch.Tensor]:
        """Solves the ODE by midpoint steps; see `FlowInversion.solve`."""
        middle: torch.Tensor | None = None
        for start, end in pairwise(positions):
            sigma, sigma_middle, sigma_end = (schedule.at(at).sigma for at in (start, (start + end) / 2, end))
            first = middle if self.reuses_midpoint and middle is not None else velocity(start, latents)
            middle = velocity((start + end) / 2, latents + (sigma_middle - sigma) * first)
            latents = latents + (sigma_end - sigma) * middle
            yield latents
