"""Pix2pix-zero's inversion: plain reversal with regularized predictions."""

from __future__ import annotations

from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.inversion.renoise import ReNoise

PIX2PIX_ZERO = EditRegularization(lambda_pair=20.0, lambda_kl=20.0, num_reg_steps=5, num_ac_rolls=5)
"""The losses of the paper with the weights of its published code."""


class Pix2PixZeroInversion(ReNoise):
    """The inversion of pix2pix-zero (arXiv 2302.03027): DDIM inversion with L_pair and L_KL on every prediction.

    Args:
        regularization: The losses and their weights. Null takes those of pix2pix-zero.
        noise_correction: Correction of a stochastic sampler's noise. Null leaves it as drawn.

    Example:
        >>> import renoise
        >>> inversion = renoise.Pix2PixZeroInversion()
        >>> inversion.regularization.lambda_kl
        20.0
    """

    def __init__(
        self,
        regularization: EditRegularization | None = None,
        noise_correction: NoiseCorrection | None = None,
    ) -> None:
        regularization = regularization or PIX2PIX_ZERO
        super().__init__(
            iterations=0,
            regularization=regularization,
            noise_correction=noise_correction,
        )
