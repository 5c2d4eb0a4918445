"""Noise correction (ReNoise, section 3.5): moves the noise of a stochastic step to where the step becomes exact.

At the z_t that renoising found, the step z_{t-1} = φ z_t + ψ ε_θ(z_t) + ρ ε holds exactly for one noise,

    ε* = (z_{t-1} − φ_t z_t − ψ_t ε_θ(z_t, t, c)) / ρ_t.

`override` takes it. `optimize` takes gradient steps on ½‖ε − ε*‖². They move ε towards ε* in proportion to the error,
so ε stays close to N(0, I), which keeps the image editable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from renoise.core.step import Step

Method = Literal["override", "optimize"]


@dataclass(frozen=True)
class NoiseCorrection:
    """How the noise of a step is corrected once the step is solved.

    Args:
        method: `override` takes ε*. `optimize` goes part of the way there.
        strength: Of each gradient step of `optimize`, in (0, 1]: the share of the error that it removes.
        steps: Gradient steps of `optimize`.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> from renoise import NoiseCorrection
        >>> NoiseCorrection("optimize", strength=0.5, steps=2).share
        0.75
    """

    method: Method = "optimize"
    strength: float = 0.5
    steps: int = 1

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method must be {' or '.join(get_args(Method))}, got {self.method!r}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be in (0, 1], got {self.strength}")
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}")

    @property
    def share(self) -> float:
        """How far ε moves towards ε*: 1 − (1 − strength)^steps, the closed form of the gradient steps."""
        return 1.0 if self.method == "override" else 1 - (1 - self.strength) ** self.steps

    def correct(
        self,
        step: Step,
        latents: torch.Tensor,
        previous: torch.Tensor,
        noise: torch.Tensor,
        prediction: torch.Tensor,
    ) -> torch.Tensor:
        """Returns the corrected noise of one step, [B, C, h, w].

        Args:
            step: The sampler's step, with ρ other than 0.
            latents: z_t, [B, C, h, w].
            previous: z_{t-1}.
            noise: ε_t as it was drawn.
            prediction: The network's output at z_t.
        """
        return noise.lerp(exact_noise(step, latents, previous, prediction), self.share)


def exact_noise(step: Step, latents: torch.Tensor, previous: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Returns ε* of the module's equation, [B, C, h, w]. ρ must not be 0."""
    return (previous - step.phi * latents - step.psi * prediction) / step.rho
