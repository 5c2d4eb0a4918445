"""Stable Diffusion 3 and 3.5: a transformer trained by flow matching, two CLIPs, and T5 where it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import nn
from transformers import PreTrainedTokenizerBase

from renoise.models.conditioning import Conditioning
from renoise.models.flow_transformer import FlowTransformer
from renoise.models.prompts import split

T5_LENGTH = 256
"""Longest prompt in tokens of T5, as the pipeline takes it by default."""


class StableDiffusion3(FlowTransformer):
    """Stable Diffusion 3 and 3.5, medium and large; see `DiffusionModel`.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd3", num_inference_steps=4)
        >>> isinstance(pipeline.model, renoise.StableDiffusion3)
        True
        >>> [round(step.sigma, 2) for step in pipeline.schedule]
        [1.0, 0.8, 0.5, 0.0]
    """

    pipeline_class = "StableDiffusion3Pipeline"
    checked_with = "the shipped tiny-sd3, trained, and pipelines of random weights with T5"

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        super().__init__(pipeline)
        self.text_encoder_2: nn.Module = pipeline.text_encoder_2
        self.text_encoder_3: nn.Module | None = pipeline.text_encoder_3

    @property
    def patch_size(self) -> int:
        """Latents along each side of a patch."""
        return int(self.pipeline.patch_size)

    @property
    def tokenizers(self) -> dict[str, PreTrainedTokenizerBase]:
        """The tokenizer of each text encoder; see `StableDiffusion.tokenizers`."""
        clips = {"": self.pipeline.tokenizer, "_2": self.pipeline.tokenizer_2}
        return clips if self._t5_tokenizer is None else clips | {"_3": self._t5_tokenizer}

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Splits at the greatest length that any text encoder takes. T5 takes more than the CLIPs."""
        if self._t5_tokenizer is None:
            return super().split_prompt(prompt)
        return split([self._t5_tokenizer], prompt, T5_LENGTH)

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the prompt embeddings and the pooled embeddings of all branches."""
        pooled = [branch.pooled_prompt_embeds for branch in branches if branch.pooled_prompt_embeds is not None]
        return super().network_inputs(branches) | {"pooled_projections": torch.cat(pooled).to(self.dtype)}

    def call_network(self, latents: torch.Tensor, timestep: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Calls the transformer, which takes t of each image; see `DiffusionModel.call_network`."""
        output: torch.Tensor = self.network(
            latents, timestep=timestep.expand(len(latents)), return_dict=False, **inputs
        )[0]
        return output

    def problems(self, pipeline: DiffusionPipeline) -> Iterator[str]:
        """Yields what does not fit together; see `FlowTransformer.problems`."""
        config, vae = pipeline.transformer.config, pipeline.vae
        if isinstance(vae, AutoencoderTiny):
            yield "an AutoencoderTiny is too inaccurate for inversion; take the checkpoint's own AutoencoderKL"
            return
        channels = vae.config.latent_channels
        if not config.in_channels == config.out_channels == channels:
            yield (
                f"its transformer takes {config.in_channels} channels and returns {config.out_channels}, and its "
                f"autoencoder makes {channels}"
            )
        if pipeline.text_encoder_3 is not None and pipeline.tokenizer_3 is None:
            yield "it has text_encoder_3 and no tokenizer_3"
        pooled = sum(encoder.config.projection_dim for encoder in (pipeline.text_encoder, pipeline.text_encoder_2))
        if config.pooled_projection_dim != pooled:
            expected = config.pooled_projection_dim
            yield f"its transformer takes pooled embeddings of size {expected}, and the CLIPs make {pooled}"

    @property
    def _t5_tokenizer(self) -> PreTrainedTokenizerBase | None:
        return self.pipeline.tokenizer_3 if self.pipeline.text_encoder_3 is not None else None

    def _texts(self, argument: str, prompts: Sequence[str]) -> dict[str, list[str] | None]:
        """Returns an argument of `encode_prompt` for each text encoder. Without T5, zeros take its place."""
        return {f"{argument}_3": None} | super()._texts(argument, prompts)
