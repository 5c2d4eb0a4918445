"""Uni-Inv: every step is evaluated once, at the level that the velocity of the step before leads to."""

from __future__ import annotations

from renoise.inversion.renoise import ReNoise


class UniInv(ReNoise):
    """Uni-Inv (arXiv 2504.13109): the velocity of the step before leads to the level σ, where the step's own is taken.

    z⁰ = z_{σ'} + (σ − σ') v_before and z_σ = z_{σ'} + (σ − σ') v(z⁰, σ): ReNoise with K = 0 and a warm start from the
    last v. (`ReNoise.warm_start` extrapolates the last two linearly.) No step comes before the first one, which starts
    at z_0, as with `zero_initial` of the authors' code. Its default spends one more call, on v(z_0, 0). Sampling takes
    the steps of the schedule. For networks that predict noise, ε takes the place of v.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd3", num_inference_steps=2, inversion=renoise.UniInv())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([2])
    """

    warm_start_order = 0

    def __init__(self) -> None:
        super().__init__(iterations=0, warm_start=True)
