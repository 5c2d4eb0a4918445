"""Null-text inversion: inverts without guidance, and finds the embeddings that lead back with guidance."""

from __future__ import annotations

from dataclasses import replace

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.ddim import DDIM
from renoise.inversion.null_text_optimization import NullTextOptimization
from renoise.inversion.path import check_path
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


class NullTextInversion(Inverter):
    """Null-text inversion (Mokady et al., arXiv 2211.09794): inverts without guidance, then optimizes for guidance.

    Args:
        optimization: How the embeddings are optimized. Null takes the published code's settings.
        path: Inversion method whose trajectory is followed. Null is DDIM.

    Example:
        >>> import renoise
        >>> inversion = renoise.NullTextInversion(renoise.NullTextOptimization(iterations=1))
        >>> pipeline = renoise.load(
        ...     "data/models/tiny-sd", num_inference_steps=2, guidance_scale=2.0, inversion=inversion
        ... )
        >>> images = pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64)
        >>> images.inversion.null_embeddings.shape
        torch.Size([2, 1, 32, 96])
    """

    needs_same_steps = True

    def __init__(
        self,
        optimization: NullTextOptimization | None = None,
        path: Inverter | None = None,
    ) -> None:
        self.optimization = optimization or NullTextOptimization()
        self.path = path or DDIM()

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError without an unconditional branch or without gradients."""
        if model.takes_guidance_scale:
            raise ValueError(
                f"{type(self).__name__} needs an unconditional branch, and this network takes the guidance scale as an "
                "input instead; use another method"
            )
        if guidance_scale == 1:
            raise ValueError(
                f"{type(self).__name__} needs a guidance_scale above 1, such as 2: it optimizes the unconditional "
                "branch"
            )
        model.check_differentiable(type(self).__name__)
        check_path(self.path, type(self).__name__)
        self.path.check(model, schedule, guidance_scale=1.0)

    @torch.no_grad()
    def invert(
        self,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
        keep_trajectory: bool = False,
    ) -> Inversion:
        """Inverts B images, `conditioning` with guidance; see `Inverter.invert`."""
        inversion = self.path.invert(
            model,
            schedule,
            latents,
            conditioning.conditional,
            rng,
            keep_trajectory=True,
        )
        embeddings, nfe = self.optimization.run(model, inversion, conditioning)
        return replace(
            inversion,
            conditioning=conditioning,
            nfe=inversion.nfe + nfe,
            trajectory=inversion.trajectory if keep_trajectory else None,
            null_embeddings=embeddings,
        )
