"""A network of random weights, for tests of what must hold whatever the network predicts."""

from __future__ import annotations

import math
from typing import cast

import torch

from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


class RandomNetwork:
    """Predicts tanh(W ∗ x + sin(t / 100) + prompt), W a random convolution, in a type of its own."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weight = (torch.randn(4, 4, 3, 3, dtype=torch.float64, generator=generator) / 6).to(dtype)
        self.timesteps: list[float] = []

    def predict(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        """Stands in for `DiffusionModel.predict`."""
        self.timesteps.append(timestep)
        prompt = conditioning.prompt_embeds.mean(dim=(1, 2))[:, None, None, None]
        hidden = torch.nn.functional.conv2d(latents.to(self.weight), self.weight, padding=1)
        return torch.tanh(hidden + math.sin(timestep / 100) + prompt.to(hidden)).to(latents)

    @property
    def model(self) -> DiffusionModel:
        """The same for the type checker."""
        return cast(DiffusionModel, self)


def prompts(*values: float) -> Conditioning:
    """Returns the conditioning of prompts that `RandomNetwork` tells apart by these values."""
    return Conditioning(torch.tensor(values, dtype=torch.float64)[:, None, None].expand(-1, 2, 3))
