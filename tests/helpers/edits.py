"""Prompts, requests and small inversions for the tests of editors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.ddim import DDIM
from renoise.models.base import DiffusionModel

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
REQUESTS = [
    EditRequest("a.png", PROMPTS[0], "a wolf on a plain red background"),
    EditRequest("b.png", PROMPTS[1], "a frog on a striped blue background"),
]
UNCHANGED = [EditRequest(request.file_name, request.prompt, request.prompt) for request in REQUESTS]
"""Requests whose edit prompt is the image's own."""


def random_latents(seed: int = 0, images: int = 2) -> torch.Tensor:
    """Returns latents of images of 32 × 32 pixels."""
    return torch.randn(images, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def invert(
    model: DiffusionModel,
    method: Inverter | None = None,
    *,
    steps: int = 4,
    prompts: Sequence[str] = PROMPTS,
    guidance_scale: float = 1.0,
    latents: torch.Tensor | None = None,
    schedule: Schedule | None = None,
    keep_trajectory: bool = True,
) -> Inversion:
    """Inverts a small image for each prompt, under the model's own scheduler unless a schedule is given."""
    return (method or DDIM()).invert(
        model,
        schedule or Schedule.from_scheduler(model.scheduler, steps),
        random_latents(images=len(prompts)) if latents is None else latents,
        model.encode_prompts(list(prompts), guidance_scale),
        ImageRNG(0, list(prompts)),
        keep_trajectory,
    )
