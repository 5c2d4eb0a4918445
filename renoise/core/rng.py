"""Random numbers that depend on the seed, the purpose and the image's name, not on the batch or the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ImageRNG:
    """Random numbers for B named images.

    An image gets the same numbers in any batch, on any device and in any number of processes. Numbers for one purpose
    do not change when a setting makes the run draw more or fewer numbers for another purpose.

    Args:
        seed: Seed of the run.
        names: Names of the B images.

    Example:
        >>> from renoise import ImageRNG
        >>> pair = ImageRNG(seed=0, names=["cat.png", "dog.png"]).normal("noise", [4, 8, 8])
        >>> alone = ImageRNG(seed=0, names=["dog.png"]).normal("noise", [4, 8, 8])
        >>> bool((pair[1] == alone[0]).all())
        True
    """

    seed: int
    names: Sequence[str]

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Draws standard normal numbers.

        Args:
            purpose: What the numbers are for, such as "noise".
            shape: Of one image's numbers.

        Returns:
            float32 [B, *shape] on the CPU.
        """
        return self._draw(torch.randn, purpose, shape)

    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Draws numbers uniformly from [0, 1); see `normal`."""
        return self._draw(torch.rand, purpose, shape)

    def select(self, index: Sequence[int]) -> ImageRNG:
        """Returns the generator of some of the images."""
        return ImageRNG(self.seed, [self.names[position] for position in index])

    def _draw(self, draw: Callable[..., torch.Tensor], purpose: str, shape: Sequence[int]) -> torch.Tensor:
        # Device and type are fixed because Lightning changes the defaults while it sets up a model.
        options = {"dtype": torch.float32, "device": "cpu"}
        drawn = [draw(*shape, generator=_generator(self.seed, purpose, name), **options) for name in self.names]
        return torch.stack(drawn) if drawn else torch.empty(0, *shape, **options)  # type: ignore[call-overload]


def _generator(seed: int, purpose: str, name: str) -> torch.Generator:
    """Returns a generator whose seed is a hash of its arguments."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode(errors="surrogateescape")).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
