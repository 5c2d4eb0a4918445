"""Replaces the attention of an edit by the attention of its image."""

from __future__ import annotations

import torch

from renoise import AttentionControl

from .token_map import TokenMap
from .word_maps import WordMaps

FINEST_SELF_ATTENTION = 32 * 32
"""Most positions of a self-attention layer that is replaced, as in the published code. Finer layers hold texture."""


class AttentionReplacement(AttentionControl):
    """Gives the edits, the last B of the network's batch of N, the attention of their images.

    Args:
        tokens: Token maps of the B pairs of prompts.
        source_index: Where the images' prompts are in the network's batch: B positions.
        record: Collects the maps of the changed words as the network computes them, before they are replaced or
            weighted. None collects nothing.
    """

    def __init__(self, tokens: TokenMap, source_index: slice, record: WordMaps | None = None) -> None:
        self.tokens = tokens
        self.source_index = source_index
        self.record = record
        self.replaces_cross = False
        """Whether cross-attention is replaced at the current step."""
        self.replaces_self = False
        """Whether self-attention is replaced at the current step."""

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns the maps of one layer, [N, heads, positions, tokens], with those of the edits replaced."""
        batch_size = len(self.tokens.mapped)
        source, target = maps[self.source_index], maps[-batch_size:]
        if self.record is not None:
            self.record.add(source, target)  # M_t and M*_t of the paper, before they are replaced or weighted
        if self.replaces_cross:
            from_source = source @ self.tokens.mapper[:, None].to(maps)
            mapped = self.tokens.mapped[:, None, None] > 0  # [B, 1, 1, tokens]
            weights = self.tokens.weights[:, None, None].to(maps)
            target = torch.where(mapped, from_source, target) * weights
            maps = torch.cat([maps[:-batch_size], target])
        return maps

    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the queries and keys of one layer, each [N, heads, positions, d], with those of the edits replaced.

        The images' queries and keys give the edits the images' maps, which are never computed explicitly.
        """
        if not self.replaces_self or query.shape[2] > FINEST_SELF_ATTENTION:
            return query, key
        batch_size = len(self.tokens.mapped)
        query = torch.cat([query[:-batch_size], query[self.source_index]])
        key = torch.cat([key[:-batch_size], key[self.source_index]])
        return query, key
