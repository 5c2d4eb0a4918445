"""RF-Inversion: the flow's ODE, controlled towards noise and back towards the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.flow import FlowInversion, Velocity


class RFInversion(FlowInversion):
    """RF-Inversion (arXiv 2410.10792): Euler steps of a controlled ODE.

    Inversion goes along v + γ (v_n − v), where v_n = (n − z) / (1 − σ) leads straight to a noise n that is drawn for
    each image. Sampling goes along v + η (v_0 − v) in a window of steps, where v_0 = (z − z_0) / σ leads straight to
    the image. `Inversion.companion` keeps z_0. Both take one network call a step. The defaults are those of the
    community pipeline of diffusers.

    Args:
        gamma: γ, from 0 to 1. 0 is Euler's method without control, 1 ends at n.
        eta: η, from 0 to 1. 0 is Euler's method without control. More keeps more of the image.
        start: Share of the steps before the window of η, from 0 to 1.
        stop: Share of the steps at which the window ends, from `start` to 1.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd3", num_inference_steps=2, inversion=renoise.RFInversion())
        >>> inversion = pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion
        >>> inversion.nfe, inversion.companion.shape[:2]
        (tensor([2]), torch.Size([1, 1]))
    """

    def __init__(self, gamma: float = 0.5, eta: float = 1.0, start: float = 0.0, stop: float = 0.25) -> None:
        for name, value in {"gamma": gamma, "eta": eta, "start": start, "stop": stop}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
        if stop < start:
            raise ValueError(f"stop must be start ({start}) or more, got {stop}")
        self.gamma = gamma
        self.eta = eta
        self.start = start
        self.stop = stop

    def solve(
        self, schedule: Schedule, positions: Sequence[int], latents: torch.Tensor, velocity: Velocity
    ) -> Iterator[torch.Tensor]:
        """Solves the ODE by Euler's method; see `FlowInversion.solve`."""
        for start, end in pairwise(positions):
            latents = latents + (schedule.at(end).sigma - schedule.at(start).sigma) * velocity(start, latents)
            yield latents

    def invert_velocity(self, schedule: Schedule, velocity: Velocity, latents: torch.Tensor, rng: ImageRNG) -> Velocity:
        """Returns v + γ (v_n − v), Algorithm 1 of the paper."""
        noise = rng.normal("RF-Inversion", latents.shape[1:]).to(latents)

        def controlled(position: float, noisy: torch.Tensor) -> torch.Tensor:
            to_noise = (noise - noisy) / (1 - schedule.at(position).sigma)
            return velocity(position, noisy).lerp(to_noise, self.gamma)

        return controlled

    def sample_velocity(self, velocity: Velocity, inversion: Inversion) -> Velocity:
        """Returns v + η (v_0 − v) in the window, Algorithm 2 of the paper."""
        assert inversion.companion is not None
        (image,) = inversion.companion
        schedule = inversion.schedule
        window = range(int(self.start * len(schedule)), int(self.stop * len(schedule)))

        def controlled(position: float, noisy: torch.Tensor) -> torch.Tensor:
            prediction = velocity(position, noisy)
            if position not in window:
                return prediction
            return prediction.lerp((noisy - image) / schedule.at(position).sigma, self.eta)

        return controlled

    def companion(self, latents: torch.Tensor) -> torch.Tensor:
        """Returns z_0."""
        return latents[None].clone()
