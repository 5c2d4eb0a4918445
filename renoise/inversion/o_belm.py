"""O-BELM: an explicit two-step method of second order that is explicit in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.inversion.exact import Pair, TwoStepInversion
from renoise.models.base import DiffusionModel


class OBELM(TwoStepInversion):
    """O-BELM: Bidirectional Explicit Linear Multi-step Samplers (Wang et al., arXiv 2410.07273).

    In z̄ = z / signal, a deterministic sampler solves dz̄ = ε ds with s = sigma / signal. Of all two-step formulas that
    are explicit in both directions, this one has the smallest local error. With h = s_t − s_{t-1} and
    h₊ = s_{t+1} − s_t,

        z̄_{t-1} = z̄_t + (h / h₊)² (z̄_{t+1} − z̄_t) − h (h + h₊) / h₊ · ε(z_t).

    It is solved for z̄_{t+1} in closed form, so the round trip is exact up to rounding. One network call for each step.
    The companion that is kept beside z_T is z_{T-1}.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=4, inversion=renoise.OBELM())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([4])
    """

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError as `TwoStepInversion.check` does, and where a step does not reduce the noise."""
        super().check(model, schedule, guidance_scale)
        levels = _levels(schedule.steps)
        for step, (_, s), (_, s_next) in zip(schedule, levels, levels[1:], strict=False):
            if not s - s_next > MIN_CHANGE:
                raise ValueError(
                    f"{type(self).__name__} divides by how much a step reduces the noise, and the step at timestep "
                    f"{step.timestep:g} does not. Set scheduler_options.timestep_spacing to trailing"
                )

    def cleaner(self, steps: Sequence[Step], step_index: int, pair: Pair, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_{t-1}; see `TwoStepInversion.cleaner`."""
        (a_before, s_before), (a, s), (a_next, s_next) = _levels(steps)[step_index - 1 : step_index + 2]
        h_before, h = s_before - s, s - s_next
        z, z_before = pair.latents / a, pair.companion / a_before
        return a_next * (z + (h / h_before) ** 2 * (z_before - z) - h * (h + h_before) / h_before * noise)

    def noisier(self, steps: Sequence[Step], step_index: int, pair: Pair, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_{t+1}; see `TwoStepInversion.noisier`."""
        (a_before, s_before), (a, s), (a_next, s_next) = _levels(steps)[step_index - 1 : step_index + 2]
        h_before, h = s_before - s, s - s_next
        z_next, z = pair.latents / a_next, pair.companion / a
        return a_before * (z + (h_before / h) ** 2 * (z_next - z + h * (h + h_before) / h_before * noise))


MIN_CHANGE = 1e-6
"""A smaller change of s = sigma / signal is the rounding error of a float32 scheduler."""


def _levels(steps: Sequence[Step]) -> list[tuple[float, float]]:
    """Returns (signal, s) of every noise level, noisiest first, and of the clean one, where the last step ends."""
    last = steps[-1]
    signal = last.phi_of_noise * last.signal
    sigma = last.phi_of_noise * last.sigma + last.psi_of_noise
    levels = [(step.signal, step.sigma / step.signal) for step in steps]
    return [*levels, (signal, sigma / signal)]
