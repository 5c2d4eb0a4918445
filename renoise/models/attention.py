"""A UNet's attention, watched and changed from outside for as long as an edit takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from renoise.errors import InputError


class AttentionControl:
    """What happens to attention while the network runs; as it stands, nothing.

    Rows are those of the network's batch, in its order.
    """

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps to use for `maps`: softmax(Q Kᵀ / √d), [rows, heads, positions, tokens], of one layer."""
        return maps

    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The queries and keys to use, each [rows, heads, positions, d], of one layer."""
        return query, key


def check_attention(unet: UNet2DConditionModel, editor: str) -> None:
    """Raises InputError where a UNet has attention of a kind that `controlled_attention` cannot stand in for."""
    kinds = {type(processor) for processor in unet.attn_processors.values()}
    strange = kinds - {AttnProcessor, AttnProcessor2_0}
    if strange:
        names = ", ".join(sorted(kind.__name__ for kind in strange))
        raise InputError(f"{editor} works on the model's attention maps, which its {names} does not show")


@contextmanager
def controlled_attention(unet: UNet2DConditionModel, control: AttentionControl) -> Iterator[None]:
    """Runs all of a UNet's attention under `control`; puts the processors back at the end, whatever happens."""
    with kept_attention(unet):
        unet.set_attn_processor(_Controlled(control))
        yield


@contextmanager
def kept_attention(unet: UNet2DConditionModel) -> Iterator[None]:
    """Puts a UNet's attention processors back at the end, whatever happens to them meanwhile."""
    processors = unet.attn_processors
    try:
        yield
    finally:
        unet.set_attn_processor(dict(processors))  # a copy: diffusers empties what it is given


class _Controlled:
    """diffusers' attention processor for the transformer blocks of a UNet, with its maps handed to `control`."""

    def __init__(self, control: AttentionControl) -> None:
        self.control = control

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,  # no prompt is masked here
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        if encoder_hidden_states is None:
            attended = self._within(*(_by_head(attn, each) for each in (query, key, value)))
        else:
            maps = attn.get_attention_scores(*(attn.head_to_batch_dim(each) for each in (query, key)))
            maps = self.control.cross_attention(maps.unflatten(0, (len(query), attn.heads)))
            attended = maps @ _by_head(attn, value)
        outputs: torch.Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2).to(query.dtype))
        return outputs

    def _within(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Self-attention, [rows, heads, positions, d]; its maps are never written out."""
        query, key = self.control.self_attention(query, key)
        return F.scaled_dot_product_attention(query, key, value)


def _by_head(attn: Attention, tensor: torch.Tensor) -> torch.Tensor:
    """[rows, positions, heads · d] to [rows, heads, positions, d]."""
    split: torch.Tensor = tensor.unflatten(-1, (attn.heads, -1))
    return split.transpose(1, 2)
