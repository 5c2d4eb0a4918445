"""EDICT: two copies of the latents that denoise each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.core.step import Step
from renoise.inversion.exact import ExactInversion, NoiseAt, Pair, denoise_by, renoise_by


class EDICT(ExactInversion):
    """EDICT: Exact Diffusion Inversion via Coupled Transformations (Wallace et al., arXiv 2211.12446).

    Two copies x and y of the latents take turns: each takes the sampler's step with the noise predicted at the other,
    and then both are mixed. From t to t − 1:

        x' = φ x_t + ψ ε(y_t),        x_{t-1} = p x' + (1 − p) y',
        y' = φ y_t + ψ ε(x'),         y_{t-1} = p y' + (1 − p) x_{t-1}.

    Every other step begins with y, as in the paper. Each equation is solved for its right-hand side in closed form, so
    the round trip is exact up to rounding. x_0 = y_0 is the image, and sampling returns x_0. A step takes two network
    calls, in both directions. The companion that is kept beside z_T = x_T is y_T.

    Args:
        mixing: p, in (0, 1]. Inversion multiplies the difference of x and y by about 1 / p² at every step, and sampling
            divides by it. A smaller p therefore needs fewer steps.

    Raises:
        ValueError: `mixing` is out of range.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=renoise.EDICT())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([4])
    """

    def __init__(self, mixing: float = 0.93) -> None:
        if not 0 < mixing <= 1:
            raise ValueError(f"mixing must be in (0, 1], got {mixing}")
        self.mixing = mixing

    def begin(self, steps: Sequence[Step], latents: torch.Tensor, noise_at: NoiseAt) -> Pair:
        """Returns two copies of z_0."""
        return Pair(latents, latents)

    def denoise(self, steps: Sequence[Step], step_index: int, pair: Pair, noise_at: NoiseAt) -> Pair:
        """Takes one step of both copies, and mixes them; see `ExactInversion.denoise`."""
        step, p = steps[step_index], self.mixing
        first, second = _in_turn(step_index, pair)
        first = denoise_by(step, first, noise_at(step_index, second))
        second = denoise_by(step, second, noise_at(step_index, first))
        x, y = _in_turn(step_index, Pair(first, second))
        x = p * x + (1 - p) * y
        y = p * y + (1 - p) * x
        return Pair(x, y)

    def renoise(self, steps: Sequence[Step], step_index: int, pair: Pair, noise_at: NoiseAt) -> Pair:
        """Inverts `denoise`, its equations in reverse order."""
        step, p = steps[step_index], self.mixing
        x, y = pair
        y = (y - (1 - p) * x) / p
        x = (x - (1 - p) * y) / p
        first, second = _in_turn(step_index, Pair(x, y))
        second = renoise_by(step, second, noise_at(step_index, first))
        first = renoise_by(step, first, noise_at(step_index, second))
        return _in_turn(step_index, Pair(first, second))


def _in_turn(step_index: int, pair: Pair) -> Pair:
    """Returns the copies in the order of their turns, and from that order x and y again."""
    return pair if step_index % 2 == 0 else Pair(pair.companion, pair.latents)
