"""An inversion method with its model and schedule, for tests that invert more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


@dataclass(frozen=True)
class BoundInverter:
    """Inverts latents by one method, on one model, with one schedule."""

    method: Inverter
    model: DiffusionModel
    schedule: Schedule
    seed: int = 0
    keep_trajectory: bool = False

    def invert(self, latents: torch.Tensor, conditioning: Conditioning, names: Sequence[str]) -> Inversion:
        rng = ImageRNG(self.seed, names)
        return self.method.invert(self.model, self.schedule, latents, conditioning, rng, self.keep_trajectory)
