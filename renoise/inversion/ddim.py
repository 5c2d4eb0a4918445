"""DDIM inversion: the plain reversal of the sampler."""

from __future__ import annotations

from renoise.core.noise_correction import NoiseCorrection
from renoise.inversion.renoise import ReNoise


class DDIM(ReNoise):
    """DDIM inversion (arXiv 2010.02502): ReNoise with K = 0, one network call for each step.

    It reverses any single-step sampler, not DDIM alone.

    Args:
        noise_correction: Correction of a stochastic sampler's noise. Null leaves it as drawn.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=renoise.DDIM())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([2])
    """

    def __init__(self, noise_correction: NoiseCorrection | None = None) -> None:
        super().__init__(iterations=0, noise_correction=noise_correction)
