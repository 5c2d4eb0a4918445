"""Random numbers that belong to an image and a purpose, not to the order in which things happen to be drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def generator(seed: int, purpose: str, image: str) -> torch.Generator:
    """A CPU generator of its own for each (seed, purpose, image)."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{image}".encode(errors="surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def uniform(seed: int, purpose: str, images: Sequence[str], shape: Sequence[int]) -> torch.Tensor:
    """Numbers drawn evenly from [0, 1), [B, *shape]; see `normal`."""
    return torch.stack(
        [torch.rand(*shape, generator=generator(seed, purpose, image), dtype=torch.float32) for image in images]
    )


def normal(seed: int, purpose: str, images: Sequence[str], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal numbers [B, *shape], each image's from its own stream: the same in any batch, on any device."""
    # The type is fixed because Lightning's true half precision changes the default one.
    return torch.stack(
        [torch.randn(*shape, generator=generator(seed, purpose, image), dtype=torch.float32) for image in images]
    )
