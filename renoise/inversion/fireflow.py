"""FireFlow: midpoint steps of the flow's ODE that reuse the velocity of the step before."""

from __future__ import annotations

from renoise.inversion.flow import MidpointInversion


class FireFlow(MidpointInversion):
    """FireFlow (arXiv 2412.07517): midpoint steps at one network call a step, in both directions.

    The velocity at the middle of a step serves as the one at the start of the next. So N steps take N + 1 calls, and
    are still of second order.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd3", num_inference_steps=2, inversion=renoise.FireFlow())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([3])
    """

    reuses_midpoint = True
