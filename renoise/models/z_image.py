"""Z-Image: a transformer trained by flow matching, whose prompts are encoded by a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch.nn.utils.rnn import pad_sequence

from renoise.models.conditioning import Conditioning, effective_guidance_scale
from renoise.models.flow_transformer import FlowTransformer
from renoise.models.prompts import split

MAX_SEQUENCE_LENGTH = 512
"""Longest prompt in tokens with the chat template, as the pipeline takes it by default."""
LEVELS = 1000
"""Timesteps of the pipeline, whose network takes the time (1000 − t) / 1000."""
RESOLUTION = 1024
"""Height and width in pixels of the images that the pipeline makes by default."""
MARK = "PROMPT"


class ZImage(FlowTransformer):
    """Z-Image and Z-Image-Turbo; see `DiffusionModel`.

    The network takes the time 1 − t/1000 and predicts z_0 − noise. It is negated, so that here, as in every family of
    flow matching, v = noise − z_0.

    The pipeline computes v_c + g · (v_c − v_∅). Its `guidance_scale` g is therefore s − 1: `guidance_scale` 1 here is
    its 0, the setting of Z-Image-Turbo, and 5 here is its 4.

    Example:
        >>> import renoise
        >>> renoise.ZImage.pipeline_class, renoise.ZImage.is_flow
        ('ZImagePipeline', True)
    """

    pipeline_class = "ZImagePipeline"
    checked_with = "pipelines of random weights"

    @property
    def default_resolution(self) -> int:
        """The pipeline's own, or the largest whose patches the network can count."""
        return min(RESOLUTION, self.size_multiple * int(min(self._config.axes_lens[1:])))

    def unshifted_sigmas(self, num_inference_steps: int) -> list[float]:
        """Returns the pipeline's: equal steps from 1 to 1/S."""
        return list(get_default_z_image_sigmas(num_inference_steps))

    def guide(self, predictions: Sequence[torch.Tensor], guidance_scale: float) -> torch.Tensor:
        """Returns v_c + (s − 1) · (v_c − v_∅), the usual formula in the order of the pipeline's operations."""
        if len(predictions) == 1:
            return predictions[0]
        unconditional, conditional = predictions
        return conditional + (guidance_scale - 1) * (conditional - unconditional)

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Splits where the tokens of the chat template's beginning and of the prompt reach the pipeline's limit."""
        begin = _chat(self.pipeline.tokenizer, MARK).partition(MARK)[0]
        template = len(self.pipeline.tokenizer(begin, add_special_tokens=False).input_ids)
        return split([self.pipeline.tokenizer], prompt, MAX_SEQUENCE_LENGTH - template)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts by the pipeline's own `encode_prompt`, and pads them to the longest.

        The embeddings have the tokens of the chat template too, before and after those of the prompt.
        """
        guidance_scale = effective_guidance_scale(guidance_scale)
        guided = guidance_scale != 1
        embeds, negative = self.pipeline.encode_prompt(
            device=self.device,
            do_classifier_free_guidance=guided,
            **self._texts("prompt", prompts),
            **(self._texts("negative_prompt", negative_prompts) if negative_prompts else {}),
        )
        prompt_embeds, prompt_mask = _pad(embeds)
        negative_embeds, negative_mask = _pad(negative) if guided else (None, None)
        return Conditioning(
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_embeds,
            guidance_scale=guidance_scale,
            time_ids=None if time_ids is None else time_ids.to(prompt_embeds.device),
            prompt_mask=prompt_mask,
            negative_prompt_mask=negative_mask,
        )

    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the prompt embeddings of all branches without padding, [length, D] of each image."""
        embeds = [
            image if mask is None else image[mask]
            for branch in branches
            for image, mask in zip(
                branch.prompt_embeds.to(self.dtype),
                [None] * len(branch.prompt_embeds) if branch.prompt_mask is None else branch.prompt_mask,
                strict=True,
            )
        ]
        return {"cap_feats": embeds}

    def call_network(self, latents: torch.Tensor, timestep: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Calls the transformer, which takes a list of videos of one frame; see `DiffusionModel.call_network`."""
        time = (LEVELS - timestep.expand(len(latents))) / LEVELS
        output = self.network(list(latents.unsqueeze(2)), time, return_dict=False, **inputs)[0]
        return -torch.stack(output).squeeze(2)

    def problems(self, pipeline: DiffusionPipeline) -> Iterator[str]:
        """Yields what does not fit together; see `FlowTransformer.problems`."""
        config, vae = pipeline.transformer.config, pipeline.vae
        if isinstance(vae, AutoencoderTiny):
            yield "an AutoencoderTiny is too inaccurate for inversion; take the checkpoint's own AutoencoderKL"
            return
        if config.in_channels != vae.config.latent_channels:
            yield (
                f"its transformer takes {config.in_channels} channels, and its autoencoder makes "
                f"{vae.config.latent_channels}"
            )
        if 2 not in config.all_patch_size or 1 not in config.all_f_patch_size:
            yield f"its transformer takes patches of {list(config.all_patch_size)}, and the pipeline makes patches of 2"
        size, expected = pipeline.text_encoder.config.hidden_size, config.cap_feat_dim
        if expected != size:
            yield f"its transformer takes prompt embeddings of size {expected}, and the text encoder makes {size}"
        if pipeline.tokenizer.chat_template is None:
            yield "its tokenizer has no chat template"
        elif MARK not in _chat(pipeline.tokenizer, MARK):
            yield "the chat template of its tokenizer leaves out the prompt"


def _pad(embeds: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns embeddings [L_i, D] as [B, length, D], and which positions are not padding, bool [B, length]."""
    lengths = torch.tensor([len(image) for image in embeds], device=embeds[0].device)
    padded = pad_sequence(list(embeds), batch_first=True)
    return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]


def _chat(tokenizer: Any, prompt: str) -> str:
    """Returns the text that the pipeline makes of a prompt."""
    messages = [{"role": "user", "content": prompt}]
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    )
