"""Attention maps of the words that change between the prompts."""

from __future__ import annotations

import torch

from .token_map import TokenMap

FINEST_MAPS = 16 * 16
"""Most positions of the maps that are used, as in the paper. They tell best where a word is."""


class WordMaps:
    """Sums the cross-attention to the changed words over steps, heads and the layers of one resolution.

    The resolution is the finest of at most `FINEST_MAPS` positions, else the coarsest of all.

    Args:
        tokens: Token maps of B pairs of prompts, which mark the changed words.
        size: (h, w) of the latents.
    """

    def __init__(self, tokens: TokenMap, size: tuple[int, int]) -> None:
        self.size = size
        self._source_changed = tokens.source_changed[:, None, :, None]  # [B, 1, tokens, 1]
        self._target_changed = tokens.target_changed[:, None, :, None]
        self._positions: int | None = None
        self._sums = torch.zeros(())

    def add(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Adds the maps of one layer.

        Args:
            source: Maps of the images, [B, heads, positions, tokens].
            target: Maps of their edits, [B, heads, positions, tokens].
        """
        positions = source.shape[2]
        if self._positions is not None and _preference(positions) < _preference(self._positions):
            return
        to_source_words = source @ self._source_changed.to(source)  # [B, heads, positions, 1]
        to_target_words = target @ self._target_changed.to(target)
        summed = torch.stack([to_source_words, to_target_words]).squeeze(-1).float().sum(dim=2)  # [2, B, positions]
        self._sums = self._sums + summed if positions == self._positions else summed
        self._positions = positions

    def summed(self) -> torch.Tensor:
        """Returns the sums, [2, B, height, width]: first of the source's changed words, then of the target's."""
        height, width = self.size
        while height * width > (self._positions or 0):  # a UNet halves the size and rounds up
            height, width = -(-height // 2), -(-width // 2)
        return self._sums.reshape(*self._sums.shape[:-1], height, width)


def _preference(positions: int) -> int:
    """Ranks resolutions: the finest of at most `FINEST_MAPS` positions first, then the others from coarse to fine."""
    return positions if positions <= FINEST_MAPS else -positions
