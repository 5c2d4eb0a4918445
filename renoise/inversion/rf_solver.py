"""RF-Solver: second-order Taylor steps of the flow's ODE."""

from __future__ import annotations

from renoise.inversion.flow import MidpointInversion


class RFSolver(MidpointInversion):
    """RF-Solver (arXiv 2411.04746): a second-order Taylor step in both directions.

    z' = z + Δ v + Δ²/2 · dv/dσ, where Δ = σ' − σ. The paper measures the derivative at the middle of the step, as
    (v_m − v) / (Δ/2), so that z' = z + Δ v_m: the midpoint rule. It takes two network calls a step. Attention features
    that the paper shares between image and edit are not part of it.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd3", num_inference_steps=2, inversion=renoise.RFSolver())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([4])
    """

    reuses_midpoint = False
