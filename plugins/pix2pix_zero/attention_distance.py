"""Distance between the cross-attention maps of an edit and those of its image: L_xa of pix2pix-zero."""

from __future__ import annotations

import torch

from renoise import AttentionControl


class SourceMaps(AttentionControl):
    """Keeps the cross-attention maps of a prediction.

    Args:
        batch_size: B images. The last B entries of the network's batch are those of their prompts.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.layers: list[torch.Tensor] = []
        """Maps of every layer in the order of the calls, each [B, heads, positions, tokens]."""

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Keeps the maps of one layer, [N, heads, positions, tokens], and returns them unchanged."""
        self.layers.append(maps[-self.batch_size :].detach())
        return maps


class AttentionDistance(AttentionControl):
    """Sums ‖M − M_source‖² over layers, positions and tokens, averaged over heads.

    Args:
        layers: M_source of every layer, as `SourceMaps` keeps them.
    """

    def __init__(self, layers: list[torch.Tensor]) -> None:
        self._remaining = iter(layers)
        self.total = torch.zeros(())
        """Sum over layers and images. The latents of an image affect only its own term, so the gradient is its own."""

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Adds the distance of one layer, [B, heads, positions, tokens], and returns the maps unchanged."""
        difference = maps.float() - next(self._remaining).float()
        per_head = difference.square().sum(dim=(-2, -1))  # [B, heads]
        self.total = self.total.to(maps.device) + per_head.mean(dim=1).sum()
        return maps
