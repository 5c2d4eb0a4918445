"""Distance between the cross-attention maps of an edit and those of its image: L_xa of pix2pix-zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise import AttentionControl


class CrossAttentionMaps(AttentionControl):
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
        self.layers.append(maps[-self.batch_size :])
        return maps


def attention_distance(layers: Sequence[torch.Tensor], source_layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns ‖M − M_source‖², averaged over heads and summed over layers, positions, tokens and images.

    The latents of an image affect only its own term, so the gradient with respect to them is the image's own.

    Args:
        layers: M of every layer, each [B, heads, positions, tokens].
        source_layers: M_source of every layer.
    """
    distances = [
        (maps.float() - source.float()).square().sum(dim=(-2, -1)).mean(dim=1).sum()
        for maps, source in zip(layers, source_layers, strict=True)
    ]
    return torch.stack(distances).sum()
