"""Distance between the cross-attention maps of an edit and those of its image: L_xa of pix2pix-zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise import AttentionControl

SMALLEST_DIFFERENCE = 2.0**-60
"""Images whose maps differ by less, or not at all, are scaled as if by this much. It keeps the scale finite."""


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


def distance_gradient(
    layers: Sequence[torch.Tensor], source_layers: Sequence[torch.Tensor], inputs: torch.Tensor
) -> torch.Tensor:
    """Returns ∇_x L_xa of each image, [B, C, h, w], in the type of the inputs.

    L_xa = ‖M − M_source‖², averaged over heads and summed over layers, positions and tokens.

    ∂L_xa / ∂M = 2 (M − M_source) / heads goes back through the network at a scale of its own for each image: a power of
    two at which its largest value is between 1 and 2. float16 would round small gradients to 0 otherwise.

    Args:
        layers: M of every layer, each [B, heads, positions, tokens], computed from the inputs with gradients.
        source_layers: M_source of every layer.
        inputs: x, [B, C, h, w].
    """
    slopes = [
        2 / maps.shape[1] * (maps.detach().float() - source.float())
        for maps, source in zip(layers, source_layers, strict=True)
    ]
    largest = torch.stack([slope.abs().amax(dim=(1, 2, 3)) for slope in slopes]).amax(dim=0)
    exponents = 1 - torch.frexp(largest.clamp(min=SMALLEST_DIFFERENCE)).exponent[:, None, None, None]
    scaled = [slope.ldexp_(exponents).to(maps) for slope, maps in zip(slopes, layers, strict=True)]
    (gradient,) = torch.autograd.grad(list(layers), inputs, scaled)
    return torch.ldexp(gradient, -exponents)
