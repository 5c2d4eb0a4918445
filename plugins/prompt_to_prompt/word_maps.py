"""Where the words that change attend to, while image and edit are sampled."""

from __future__ import annotations

import math

import torch

from .token_map import TokenMap

FINEST_MAPS = 16 * 16
"""Positions of the maps that tell best where a word is, as in the paper."""


class WordMaps:
    """Cross-attention to the changed words, summed over steps and over the layers of one resolution.

    That is the finest of `FINEST_MAPS` positions or fewer, else the coarsest there is.

    Args:
        tokens: says which words they are.
        size: (h, w) of the latents.
    """

    def __init__(self, tokens: TokenMap, size: tuple[int, int]) -> None:
        self.size = size
        self._changed = tokens.source_changed[:, None, :, None], tokens.new_changed[:, None, :, None]
        self._positions, self._fitness = 0, -math.inf
        self._sums = torch.zeros(())

    def add(self, source: torch.Tensor, edit: torch.Tensor) -> None:
        """Maps of one layer: of the images and of their edits, each [B, heads, positions, tokens]."""
        positions = source.shape[2]
        fitness = positions if positions <= FINEST_MAPS else -positions
        if fitness < self._fitness:
            return
        heads = torch.stack([maps @ of.to(maps) for maps, of in zip((source, edit), self._changed, strict=True)])
        words = heads.squeeze(-1).float().sum(dim=2)
        self._sums = self._sums + words if fitness == self._fitness else words
        self._positions, self._fitness = positions, fitness

    def summed(self) -> torch.Tensor:
        """[2, B, rows, columns]: the first are of the images' words, the second of their edits'."""
        rows, columns = self.size
        while rows * columns > self._positions:  # as UNets halve: an odd side upwards
            rows, columns = -(-rows // 2), -(-columns // 2)
        return self._sums.reshape(*self._sums.shape[:-1], rows, columns)
