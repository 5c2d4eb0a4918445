"""Noising: adds noise to the image instead of inverting it."""

from __future__ import annotations

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


class Noising(Inverter):
    """Noises the image, z_t = signal_t · z_0 + sigma_t · n, with the same n at every level. It calls no network.

    With an edit of strength below 1 this is SDEdit (arXiv 2108.01073). It also serves editors that need no inversion,
    such as `FlowEdit`. The reconstruction is the image itself, as in `DirectInversion`.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=renoise.Noising())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([0])
    """

    needs_same_steps = True

    def invert(
        self,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
        keep_trajectory: bool = False,
    ) -> Inversion:
        """Noises B images; see `Inverter.invert`. The trajectory is always kept."""
        noise = rng.normal("noising", latents.shape[1:]).to(latents)
        trajectory = torch.stack([*(step.add_noise(latents, noise) for step in schedule), latents])
        step_noise = None
        if schedule.is_stochastic:
            drawn = rng.normal("noise", (len(schedule), *latents.shape[1:]))  # [B, S, C, h, w]
            step_noise = drawn.transpose(0, 1).to(latents)
        return Inversion(
            latents=trajectory[0],
            schedule=schedule,
            conditioning=conditioning,
            noise=step_noise,
            nfe=torch.zeros(len(latents), dtype=torch.int64, device=latents.device),
            trajectory=trajectory,
            follows_trajectory=True,
        )
