"""Noise correction: the fresh noise of a stochastic step, moved to where the step becomes exact.

At the solution z_t that renoising found, the step z_{t-1} = φ z_t + ψ ε_θ(z_t) + ρ ε holds exactly for one noise,

    ε* = (z_{t-1} − φ_t z_t − ψ_t ε_θ(z_t, t, c)) / ρ_t.

`override` takes it. `optimize` descends ½‖ε − ε*‖², which moves ε towards ε* in proportion to the error and no further:
what is kept of ε keeps the noise close to N(0, I), and with it the edits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.errors import InputError

Method = Literal["none", "override", "optimize"]


@dataclass(frozen=True)
class NoiseCorrection:
    """How the noise of each step is corrected once the step is solved.

    Args:
        method: `none`; `override` takes ε*; `optimize` goes part of the way.
        strength: of each gradient step of `optimize`, in (0, 1]: the share of the error that it takes away.
        steps: gradient steps of `optimize`.
    """

    method: Method = "none"
    strength: float = 0.5
    steps: int = 1

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"model.noise_correction must be {', '.join(get_args(Method))}, got {self.method!r}")
        if not 0 < self.strength <= 1:
            raise InputError(f"model.noise_correction_strength must lie in (0, 1], got {self.strength}")
        if self.steps < 1:
            raise InputError(f"model.noise_correction_steps must be 1 or more, got {self.steps}")

    def validate(self, schedule: Schedule, sampler: str) -> None:
        """Raises InputError where there is no noise to correct."""
        if self.method != "none" and not schedule.is_stochastic:
            raise InputError(
                f"model.noise_correction must be none with {sampler}, which draws no noise here, got {self.method}; "
                "EulerAncestralDiscreteScheduler, DDPMScheduler and LCMScheduler do in more than one step, and "
                "DDIMScheduler with model.eta above 0"
            )

    @property
    def share(self) -> float:
        """How far ε moves towards ε*: 1 − (1 − strength)^steps, the closed form of the gradient steps."""
        return {"none": 0.0, "override": 1.0, "optimize": 1 - (1 - self.strength) ** self.steps}[self.method]

    def correct(
        self,
        step: Step,
        latents: torch.Tensor,
        previous: torch.Tensor,
        noise: torch.Tensor | None,
        predict: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor | None:
        """The corrected noise of one step, [B, C, h, w]; `noise` itself, without a network call, where ρ = 0.

        Args:
            step: the sampler's step.
            latents: z_t, [B, C, h, w].
            previous: z_{t-1}.
            noise: ε_t; None where the sampler draws none.
            predict: the network at this step.
        """
        if self.method == "none" or noise is None or step.rho == 0:
            return noise
        return noise.lerp(exact_noise(step, latents, previous, predict(latents)), self.share)


def exact_noise(step: Step, latents: torch.Tensor, previous: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """ε* of the module's equation, [B, C, h, w]; ρ must not be 0."""
    return (previous - step.phi * latents - step.psi * prediction) / step.rho
