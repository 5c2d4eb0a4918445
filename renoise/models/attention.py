"""Reads and changes the attention of a UNet while an edit is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from renoise.errors import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention


class AttentionControl:
    """Callbacks on the attention of every layer. The base class changes nothing.

    N is the size of the network's batch.

    Example:
        >>> import renoise
        >>> from renoise import AttentionControl, controlled_attention
        >>> class Count(AttentionControl):
        ...     layers = 0
        ...     def cross_attention(self, maps):
        ...         self.layers += 1
        ...         return maps
        >>> model, control = renoise.load("data/models/tiny-sd").model, Count()
        >>> with controlled_attention(model.network, control):
        ...     prediction = model.predict(torch.zeros(1, 4, 16, 16), 500, model.encode_prompts(["a cat"]))
        >>> control.layers > 0
        True
    """

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns the maps to use in place of softmax(Q Kᵀ / √d) of one layer, [N, heads, positions, tokens]."""
        return maps

    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the queries and keys of one layer to use in place of those given, each [N, heads, positions, d]."""
        return query, key


def check_attention(network: UNet2DConditionModel, editor: str) -> None:
    """Raises InputError where a network has attention processors that `controlled_attention` cannot replace."""
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    if not hasattr(network, "attn_processors"):
        raise InputError(f"{editor} needs attention maps, which a {type(network).__name__} does not give")
    kinds = {type(processor) for processor in network.attn_processors.values()}
    unknown = kinds - {AttnProcessor, AttnProcessor2_0}
    if unknown:
        names = ", ".join(sorted(kind.__name__ for kind in unknown))
        raise InputError(f"{editor} needs attention maps, which the model's {names} does not compute")


@contextmanager
def controlled_attention(network: UNet2DConditionModel, control: AttentionControl) -> Iterator[None]:
    """Calls `control` for all attention of a UNet inside the block. Restores the processors at the end.

    Args:
        network: The UNet, `DiffusionModel.network`.
        control: Sees the attention of every layer, and may change it.

    Example:
        See `AttentionControl`.
    """
    with kept_attention(network):
        network.set_attn_processor(_ControlledProcessor(control))
        yield


@contextmanager
def kept_attention(network: UNet2DConditionModel) -> Iterator[None]:
    """Restores a network's attention processors at the end of the block, where they can be replaced at all."""
    if not hasattr(network, "attn_processors"):
        yield
        return
    processors = network.attn_processors
    try:
        yield
    finally:
        network.set_attn_processor(dict(processors))  # a copy, because diffusers empties the dict


class _ControlledProcessor:
    """diffusers' attention processor for the transformer blocks of a UNet, which gives its maps to `control`."""

    def __init__(self, control: AttentionControl) -> None:
        self.control = control

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,  # prompts are not masked
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.to_q(hidden_states)
        key = attn.to_k(context)
        value = attn.to_v(context)
        if encoder_hidden_states is None:
            attended = self._self_attention(_by_head(attn, query), _by_head(attn, key), _by_head(attn, value))
        else:
            maps = attn.get_attention_scores(attn.head_to_batch_dim(query), attn.head_to_batch_dim(key))
            maps = self.control.cross_attention(maps.unflatten(0, (len(query), attn.heads)))
            attended = maps @ _by_head(attn, value)
        outputs: torch.Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2).to(query.dtype))
        return outputs

    def _self_attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Computes self-attention, [N, heads, positions, d], without storing its maps."""
        query, key = self.control.self_attention(query, key)
        return F.scaled_dot_product_attention(query, key, value)


def _by_head(attn: Attention, tensor: torch.Tensor) -> torch.Tensor:
    """Reshapes [N, positions, heads · d] to [N, heads, positions, d]."""
    split: torch.Tensor = tensor.unflatten(-1, (attn.heads, -1))
    return split.transpose(1, 2)
