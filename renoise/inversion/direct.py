"""Direct inversion: the reconstruction takes its latents from the trajectory of the inversion."""

from __future__ import annotations

from dataclasses import replace

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.ddim import DDIM
from renoise.inversion.path import check_path
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


class DirectInversion(Inverter):
    """Direct inversion (arXiv 2310.01506): the reconstruction follows the inversion's trajectory.

    An editor that samples the image beside its edit, such as prompt-to-prompt, then has the image exactly. The branch
    of the edit is not changed. Inversion is without guidance, as in the paper; guidance is for the edit alone.

    Args:
        path: Inversion method whose trajectory is followed. Null is DDIM.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=renoise.DirectInversion())
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.follows_trajectory
        True
    """

    needs_same_steps = True

    def __init__(self, path: Inverter | None = None) -> None:
        self.path = path or DDIM()

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Checks the path's requirements, and raises ValueError with guidance, which would not be used."""
        name = type(self).__name__
        check_path(self.path, name)
        if guidance_scale != 1:
            raise ValueError(
                f"{name} inverts and reconstructs without guidance, so guidance_scale must be 1, got "
                f"{guidance_scale:g}; the guidance of an edit is an option of its editor"
            )
        self.path.check(model, schedule, guidance_scale=1.0)

    def invert(
        self,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
        keep_trajectory: bool = False,
    ) -> Inversion:
        """Inverts B images; see `Inverter.invert`. The trajectory is always kept."""
        inversion = self.path.invert(
            model,
            schedule,
            latents,
            conditioning.conditional,
            rng,
            keep_trajectory=True,
        )
        return replace(inversion, follows_trajectory=True)
