"""SDXL: two text encoders, pooled embeddings, time ids."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import PreTrainedTokenizerBase

from renoise.models.conditioning import Conditioning
from renoise.models.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """SDXL and the few-step models distilled from it; see `DiffusionModel`.

    Example:
        >>> import renoise
        >>> model = renoise.load("data/models/tiny-sdxl").model
        >>> model.encode_prompts(["a cat"]).time_ids
        tensor([[64., 64.,  0.,  0., 64., 64.]])
    """

    pipeline_class = "StableDiffusionXLPipeline"
    checked_with = "the shipped tiny-sdxl-turbo, trained"
    addition_embed_type = "text_time"

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        super().__init__(pipeline)
        self.text_encoder_2: nn.Module = pipeline.text_encoder_2

    @property
    def tokenizers(self) -> dict[str, PreTrainedTokenizerBase]:
        """The tokenizer of each text encoder; see `StableDiffusion.tokenizers`."""
        return {"": self.pipeline.tokenizer, "_2": self.pipeline.tokenizer_2}

    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts by both text encoders; see `DiffusionModel.encode_prompts`.

        Without `negative_prompts`, the unconditional branch is the checkpoint's own: zeros, or the empty prompt.
        """
        if time_ids is None:
            side = self.default_resolution
            time_ids = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32).expand(len(prompts), 6)
        return super().encode_prompts(prompts, guidance_scale, negative_prompts, time_ids)

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the prompt embeddings of all branches, with the pooled embeddings and the time ids."""
        added = {
            "text_embeds": torch.cat([_required(branch.pooled_prompt_embeds) for branch in branches]).to(self.dtype),
            "time_ids": torch.cat([_required(branch.time_ids) for branch in branches]),
        }
        return super().network_inputs(branches) | {"added_cond_kwargs": added}

    def vae_precision(self) -> AbstractContextManager[object]:
        """Moves the autoencoder to float32 where it would run in float16, in which it overflows."""
        device = self.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else self.vae.dtype
        if dtype != torch.float16 or not self.pipeline.vae.config.force_upcast:
            return nullcontext()
        self.vae.float()
        return torch.autocast(device, enabled=False)


def _required(tensor: torch.Tensor | None) -> torch.Tensor:
    """Narrows the type of what every conditioning of SDXL has."""
    assert tensor is not None
    return tensor
