"""The attention of the image, given to its edit: what prompt-to-prompt is."""

from __future__ import annotations

import torch

from renoise.models.attention import AttentionControl

from .token_map import TokenMap
from .word_maps import WordMaps

FINEST_SELF_ATTENTION = 32 * 32
"""Positions of the finest self-attention that is replaced, as in the published code; finer ones hold texture."""


class AttentionReplacement(AttentionControl):
    """Of the network's rows, the last B are the edits', and B rows further up are the images'.

    Args:
        tokens: which token stands for which.
        source_rows: the images'.
        record: is told where the changed words attend to; None where nobody asks.
    """

    def __init__(self, tokens: TokenMap, source_rows: slice, record: WordMaps | None = None) -> None:
        self.tokens, self.source_rows, self.record = tokens, source_rows, record
        self.edit_rows = slice(-len(tokens.share), None)
        self.replaces_cross = self.replaces_self = False
        """Whether it does at the current step."""

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """The edits' maps, taken over from the images' token by token; [rows, heads, positions, tokens]."""
        source, edit = maps[self.source_rows], maps[self.edit_rows]
        if self.replaces_cross:
            taken = source @ self.tokens.source_to_new[:, None].to(maps)
            edit = torch.where(self.tokens.share[:, None, None] > 0, taken, edit)
            edit = edit * self.tokens.weights[:, None, None].to(maps)
            maps = torch.cat([maps[: -len(edit)], edit])
        if self.record is not None:
            self.record.add(source, edit)
        return maps

    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The images' queries and keys for their edits: those make the same maps, without writing them out."""
        if not self.replaces_self or query.shape[2] > FINEST_SELF_ATTENTION:
            return query, key
        images = len(self.tokens.share)
        query, key = (torch.cat([each[:-images], each[self.source_rows]]) for each in (query, key))
        return query, key
