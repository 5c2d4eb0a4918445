"""BDIA: a step forward, corrected by the step back that the same prediction gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.core.step import Step
from renoise.inversion.exact import Pair, TwoStepInversion, denoise_by, renoise_by


class BDIA(TwoStepInversion):
    """BDIA: Exact Diffusion Inversion via Bi-directional Integration Approximation (Zhang et al., arXiv 2307.10829).

    The noise ε predicted at z_t gives a plain step to t − 1 and a plain step back to t + 1. By how much the latter
    misses z_{t+1} is carried forward:

        z_{t-1} = (φ_t z_t + ψ_t ε) + γ (z_{t+1} − (z_t − ψ_{t+1} ε) / φ_{t+1}).

    It is solved for z_{t+1} in closed form, so the round trip is exact up to rounding. One network call for each step.
    The companion that is kept beside z_T is z_{T-1}.

    Args:
        gamma: γ, in (0, 1]. Inversion divides by it at every step. The published code recommends 0.92 to 1 for edits.
            0, which is the plain sampler, cannot be inverted so.

    Raises:
        ValueError: `gamma` is out of range.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=4, inversion=renoise.BDIA())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([4])
    """

    def __init__(self, gamma: float = 1.0) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {gamma}")
        self.gamma = gamma

    def cleaner(self, steps: Sequence[Step], step_index: int, pair: Pair, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_{t-1}; see `TwoStepInversion.cleaner`."""
        latents, before = pair
        missed = before - renoise_by(steps[step_index - 1], latents, noise)
        return denoise_by(steps[step_index], latents, noise) + self.gamma * missed

    def noisier(self, steps: Sequence[Step], step_index: int, pair: Pair, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_{t+1}; see `TwoStepInversion.noisier`."""
        following, latents = pair
        missed = (following - denoise_by(steps[step_index], latents, noise)) / self.gamma
        return renoise_by(steps[step_index - 1], latents, noise) + missed
