"""The adapter for SDXL: two text encoders, pooled embeddings, time ids."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import nn

from renoise.models.base import Conditioning, DiffusionModel


class StableDiffusionXL(DiffusionModel):
    """SDXL and its few-step students; see `DiffusionModel`."""

    family = "StableDiffusionXLPipeline"

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        super().__init__(pipeline)
        self.text_encoder_2: nn.Module = pipeline.text_encoder_2
        self.requires_grad_(False).eval()

    def encode_prompts(
        self,
        prompts: list[str],
        guidance_scale: float = 1.0,
        negative_prompts: list[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Text embeddings of B prompts, hidden states of both encoders side by side; see `DiffusionModel.encode_prompts`.

        Without `negative_prompts` the unconditional branch is what the checkpoint asks for: zeros, or the empty prompt.
        """
        if time_ids is None:
            side = self.pipeline.default_sample_size * self.size_multiple
            time_ids = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32).expand(len(prompts), 6)
        return super().encode_prompts(prompts, guidance_scale, negative_prompts, time_ids)

    def vae_precision(self) -> AbstractContextManager[object]:
        """SDXL's autoencoder overflows in float16, so it is moved to float32 for good, as by diffusers' pipeline."""
        kind = self.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else next(self.vae.parameters()).dtype
        if half != torch.float16 or not self.pipeline.vae.config.force_upcast:
            return nullcontext()
        self.vae.float()
        return torch.autocast(kind, enabled=False)

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """As of Stable Diffusion, and the pooled embeddings with the time ids."""
        added = {
            "text_embeds": torch.cat([_given(branch.pooled_prompt_embeds) for branch in branches]),
            "time_ids": torch.cat([_given(branch.time_ids) for branch in branches]),
        }
        return super().network_inputs(branches) | {"added_cond_kwargs": added}


def _given(tensor: torch.Tensor | None) -> torch.Tensor:
    """What SDXL's conditionings never lack."""
    assert tensor is not None
    return tensor
