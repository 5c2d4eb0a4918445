"""Sampling from an inversion: reconstructs the images, or edits them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.progress import track


@torch.no_grad()
def sample(
    model: DiffusionModel,
    inversion: Inversion,
    conditioning: Conditioning | None = None,
    strength: float = 1.0,
) -> torch.Tensor:
    """Runs the sampler from z_T to z_0 with the inversion's own noise.

    Args:
        model: The model that the images were inverted with.
        inversion: Of B images.
        conditioning: Of B prompts, to edit the images. None takes the inversion's own, which reconstructs them.
        strength: Share of the steps to take, see `Inversion.start`.

    Returns:
        z_0, [B, C, h, w].

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> latents = pipeline.model.encode_images(torch.rand(1, 3, 64, 64))
        >>> inversion = pipeline.invert_latents(latents, pipeline.model.encode_prompts(["a cat"]), names=["cat"])
        >>> renoise.sample(pipeline.model, inversion, pipeline.model.encode_prompts(["a dog"])).shape
        torch.Size([1, 4, 16, 16])
    """
    if conditioning is None and inversion.follows_trajectory:
        assert inversion.trajectory is not None
        return inversion.trajectory[-1]  # every step ends on the trajectory

    def predict(position: float, latents: torch.Tensor) -> torch.Tensor:
        step = inversion.schedule.at(position)
        current = inversion.conditioning_at(position) if conditioning is None else conditioning
        return model.predict(step.input_scale * latents, step.timestep, current)

    return walk(inversion, predict, strength)


@torch.no_grad()
def walk(
    inversion: Inversion,
    predict: Callable[[float, torch.Tensor], torch.Tensor],
    strength: float = 1.0,
) -> torch.Tensor:
    """Runs the sampler from z_T to z_0 with the inversion's own noise, under any prediction.

    The sampler is that of the schedule, or the inversion's own where it has one.

    Args:
        inversion: Of B images.
        predict: (position in the schedule, z_t [B, C, h, w]) -> the prediction, of the same shape. The schedule's
            sampler calls it once for each step, EDICT twice. RFSolver and FireFlow call it between two steps as well,
            where `Schedule.at(position)` is the step.
        strength: Share of the steps to take, see `Inversion.start`.

    Returns:
        z_0, [B, C, h, w].

    Example:
        >>> from diffusers import DDIMScheduler
        >>> from renoise import Conditioning, Inversion, Schedule, walk
        >>> schedule = Schedule.from_scheduler(DDIMScheduler(clip_sample=False), num_inference_steps=2)
        >>> inversion = Inversion(torch.randn(1, 4, 8, 8), schedule, Conditioning(torch.zeros(1, 4, 8)))
        >>> walk(inversion, lambda position, latents: torch.zeros_like(latents)).shape
        torch.Size([1, 4, 8, 8])
    """
    if inversion.sampler is not None:
        return inversion.sampler.sample(inversion, predict, strength)
    steps, latents = inversion.start(strength)
    for step_index in track(steps, "sampling"):
        latents = inversion.denoise(step_index, latents, predict(step_index, latents))
    return latents
