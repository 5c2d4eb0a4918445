"""Pix2pix-zero as diffusers implements it, and directions computed sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_stable_diffusion_pix2pix_zero import (
    Pix2PixZeroAttnProcessor,
)

from renoise.models.attention import kept_attention
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"


@cache
def load_tiny(checkpoint: str) -> DiffusionModel:
    """Loads a shipped model by the name of its folder, once for all tests."""
    return load_model(str(MODELS / checkpoint))


@contextmanager
def diffusers_attention(model: DiffusionModel) -> Iterator[None]:
    """Gives the model the attention processors of diffusers' pix2pix-zero pipeline."""
    network = model.network
    with kept_attention(network):
        network.set_attn_processor(
            {name: Pix2PixZeroAttnProcessor("attn2" in name) for name in network.attn_processors}
        )
        yield


def direction_by_sentence(
    model: DiffusionModel, source: Sequence[str], target: Sequence[str], field: str
) -> torch.Tensor:
    """Returns the mean difference of two banks in one field of the conditioning, encoding one sentence at a time."""

    def mean(sentences: Sequence[str]) -> torch.Tensor:
        embeddings = [getattr(model.encode_prompts([sentence]), field)[0].double() for sentence in sentences]
        return torch.stack(embeddings).mean(dim=0)

    return (mean(target) - mean(source)).float()
