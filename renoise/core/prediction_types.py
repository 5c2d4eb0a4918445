"""What a network predicts, and what that says of the noise, read off a diffusers scheduler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow")


def prediction_type(scheduler: SchedulerMixin) -> str:
    """Returns what the scheduler takes the network's output for: one of `PREDICTION_TYPES`."""
    return str(scheduler.config.get("prediction_type", "epsilon")) if hasattr(scheduler, "add_noise") else "flow"


def read_noising(scheduler: SchedulerMixin, timestep: torch.Tensor) -> tuple[float, float]:
    """Returns the factors of z_0 and of the noise in z_0 noised to this level."""
    zero = torch.zeros(1, 1, 1, 1)
    one = torch.ones(1, 1, 1, 1)
    if prediction_type(scheduler) == "flow":  # another name, and another order of the arguments
        return (
            scheduler.scale_noise(one, timestep[None], zero).item(),
            scheduler.scale_noise(zero, timestep[None], one).item(),
        )
    return (
        scheduler.add_noise(one, zero, timestep[None]).item(),
        scheduler.add_noise(zero, one, timestep[None]).item(),
    )


def read_shift(scheduler: SchedulerMixin, mu: float | None) -> float:
    """Returns the factor s of the odds of every level: σ / (1 − σ) = s · u / (1 − u). It is e^μ or μ where μ counts."""
    config = scheduler.config
    if mu is None or not config.get("use_dynamic_shifting"):
        return float(config.get("shift") or 1)
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)


def unshift(sigma: float, shift: float, levels: int) -> float:
    """Returns the timestep T · u of a flow-matching sampler whose level is σ = shift · u / (1 + (shift − 1) u)."""
    return levels * sigma / (sigma + shift * (1 - sigma))


def predicted_noise(scheduler: SchedulerMixin, signal: float, sigma: float) -> tuple[float, float]:
    """Returns (a, b) of ε = a · x + b · prediction, where the network's input is x = signal · z_0 + sigma · ε."""
    return {
        "epsilon": (0.0, 1.0),
        "v_prediction": (sigma, signal),  # v = signal · ε − sigma · z_0, and signal² + sigma² = 1
        "sample": (1 / sigma, -signal / sigma),
        "flow": (1.0, signal),  # v = ε − z_0, and signal + sigma = 1
    }[prediction_type(scheduler)]
