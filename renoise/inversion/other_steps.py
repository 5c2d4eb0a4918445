"""An inversion in other steps than the sampler's: z_T is found in N steps, and sampled in S."""

from __future__ import annotations

from dataclasses import replace

from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion

BOUND_TO_STEPS = ("noise", "trajectory", "null_embeddings", "companion", "sampler")
"""What an inversion can have beside z_T. All of it belongs to the steps that the inversion was made in."""


def check_same_steps(needed_by: str, schedule: Schedule, num_inversion_steps: int | None) -> None:
    """Raises ValueError where the inversion has other steps than the sampler.

    Args:
        needed_by: What needs the same steps, for the message.
        schedule: The sampler's steps.
        num_inversion_steps: Number of the inversion's steps. None where they are the sampler's.
    """
    if num_inversion_steps is not None:
        raise ValueError(
            f"{needed_by} needs an inversion in the sampler's own steps, so num_inversion_steps must be null or "
            f"{len(schedule)} (num_inference_steps), got {num_inversion_steps}"
        )


def check_deterministic(inversion_schedule: Schedule, schedule: Schedule) -> None:
    """Raises ValueError where inversion and sampler have different steps, and any of them draws noise."""
    if inversion_schedule != schedule and (inversion_schedule.is_stochastic or schedule.is_stochastic):
        raise ValueError(
            f"num_inversion_steps must be null or {len(schedule)} (num_inference_steps) with a sampler that draws "
            f"noise, because the noise belongs to the steps of the inversion, got {len(inversion_schedule)}; take "
            "DDIMScheduler with eta 0 or EulerDiscreteScheduler"
        )


def start_in(schedule: Schedule, inversion: Inversion) -> Inversion:
    """Returns an inversion with the steps of another schedule, which start from its z_T.

    z_T is handed over as the network takes it: `input_scale · z_T` stays the same. For DDIM this is z_T itself. Where
    the schedules start at different levels, as with timestep spacing `leading`, the sampler takes z_T for a latent of
    its own level. Spacing `trailing` starts all schedules at one level.

    Args:
        schedule: The sampler's steps.
        inversion: Of B images by a deterministic schedule.

    Raises:
        ValueError: The inversion has more than z_T.

    Example:
        >>> import torch
        >>> from diffusers import DDIMScheduler
        >>> from renoise import Conditioning, Inversion, Schedule
        >>> from renoise.inversion.other_steps import start_in
        >>> three, one = (Schedule.from_scheduler(DDIMScheduler(clip_sample=False), steps) for steps in (3, 1))
        >>> inversion = start_in(one, Inversion(torch.randn(1, 4, 8, 8), three, Conditioning(torch.zeros(1, 4, 8))))
        >>> len(inversion.schedule), inversion.num_inversion_steps
        (1, 3)
    """
    bound = [name for name in BOUND_TO_STEPS if getattr(inversion, name) is not None]
    if bound:
        raise ValueError(f"an inversion with {' and '.join(bound)} can only be sampled in its own steps")
    scale = inversion.schedule.steps[0].input_scale / schedule.steps[0].input_scale
    return replace(
        inversion,
        latents=scale * inversion.latents,
        schedule=schedule,
        num_inversion_steps=len(inversion.schedule),
    )
