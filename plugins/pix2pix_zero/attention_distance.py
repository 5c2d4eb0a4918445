"""How far the cross-attention of an edit lies from the image's own: what pix2pix-zero guides by."""

from __future__ import annotations

import torch

from renoise.models.attention import AttentionControl


class SourceMaps(AttentionControl):
    """Keeps the cross-attention maps of a prediction.

    Args:
        images: B; of the network's rows, the last B are those of the prompts.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.layers: list[torch.Tensor] = []
        """[B, heads, positions, tokens] of every layer, in the order of their calls."""

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Keeps them and changes nothing."""
        self.layers.append(maps[-self.images :].detach())
        return maps


class DistanceFromMaps(AttentionControl):
    """Adds up ‖M − M_source‖² over layers, positions and tokens, the mean over heads.

    Args:
        layers: M_source, as `SourceMaps` keeps them.
    """

    def __init__(self, layers: list[torch.Tensor]) -> None:
        self._left = iter(layers)
        self.total = torch.zeros(())
        """The sum over images too: their latents do not touch one another, so its gradient is each one's own."""

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Adds one layer's distance and changes nothing."""
        difference = maps.float() - next(self._left).float()
        self.total = self.total.to(maps.device) + difference.square().sum(dim=(-2, -1)).mean(dim=1).sum()
        return maps
