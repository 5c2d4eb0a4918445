"""Warm starts: the noise that solved the last cleaner steps says where to look for the next one."""

from __future__ import annotations

import torch

from renoise.core.step import Step

MIN_PSI = 1e-6
"""A step whose ψ is smaller hardly depends on the noise, so its solution says nothing about it."""


class WarmStart:
    """Extrapolates the solved noise of one inversion from step to step (compare IFE, arXiv 2512.08547).

    The noise that solved step s is ε_s = (z_{s-1} − φ_s z_s − ρ_s ε) / ψ_s. The next step starts at z_{t-1} renoised
    under ε extrapolated linearly in t from the last two of them, or equal to the last one. That is at the right noise
    level, which z_{t-1} is not, and takes no network call. With flow matching, v takes the place of ε, see `Step.held`.

    Args:
        order: 1 extrapolates linearly. 0 takes the last one, as Uni-Inv does (arXiv 2504.13109).
    """

    def __init__(self, order: int = 1) -> None:
        self.order = order
        self.solved: list[tuple[float, torch.Tensor]] = []

    def start(self, step: Step, previous: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor | None:
        """Returns z⁰ of a step, [B, C, h, w]. None where there is nothing to extrapolate from.

        Args:
            step: The step to invert.
            previous: z_{t-1}.
            noise: ε_t. None where ρ = 0.
        """
        if not self.solved or not _says_something(step):
            return None
        (earlier_timestep, earlier), (timestep, latest) = self.solved[0], self.solved[-1]
        extrapolated = latest
        if timestep != earlier_timestep:
            share = (step.timestep - timestep) / (timestep - earlier_timestep)
            extrapolated = latest.lerp(earlier, -share)
        return step.renoise_under(previous, extrapolated, noise)

    def record(self, step: Step, previous: torch.Tensor, latents: torch.Tensor, noise: torch.Tensor | None) -> None:
        """Keeps the noise that solved a step.

        Args:
            step: The step.
            previous: z_{t-1}.
            latents: z_t as it was solved.
            noise: ε_t that it was solved with. None where ρ = 0.
        """
        if _says_something(step):
            solved = (step.timestep, step.solved_held(previous, latents, noise))
            self.solved = [*self.solved, solved][-self.order - 1 :]


def _says_something(step: Step) -> bool:
    """Returns whether the solution of a step says something about the noise, and the noise about the solution."""
    return (step.flow or step.noise_from_prediction != 0) and abs(step.psi_of_held) > MIN_PSI
