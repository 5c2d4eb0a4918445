"""Checks that a pipeline's UNet needs no input that its model family does not provide.

diffusers leaves out some inputs without a message, and the network then predicts something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import AutoencoderTiny, DiffusionPipeline

TEXT_ONLY = (None, "text_proj")
"""Values of `encoder_hid_dim_type` that need the prompt embeddings alone. Others need embeddings of an image."""


def check_unet_inputs(pipeline: DiffusionPipeline, addition_embed_type: str | None) -> None:
    """Checks the configuration of a UNet against the other parts of its pipeline.

    Args:
        pipeline: A pipeline with `unet`, `vae` and `text_encoder`, and perhaps `text_encoder_2`.
        addition_embed_type: The UNet's `addition_embed_type` for which the family provides the inputs, or None.

    Raises:
        ValueError: The UNet needs something else. The message lists every such input, and goes on from the
            checkpoint's name.
    """
    problems = [*_problems_of_latents(pipeline), *_problems_of_conditioning(pipeline, addition_embed_type)]
    if problems:
        raise ValueError(f"does not fit {type(pipeline).__name__}: {'; '.join(problems)}")


def _problems_of_latents(pipeline: DiffusionPipeline) -> Iterator[str]:
    config, vae = pipeline.unet.config, pipeline.vae
    if isinstance(vae, AutoencoderTiny):
        yield "an AutoencoderTiny is too inaccurate for inversion; take the checkpoint's own AutoencoderKL"
        return
    channels = vae.config.latent_channels
    if config.in_channels != channels:
        yield (
            f"its UNet takes {config.in_channels} channels and its autoencoder makes {channels}. UNets for inpainting, "
            "depth and InstructPix2Pix take a second image and are not supported"
        )
    elif config.out_channels != channels:
        yield f"its UNet returns {config.out_channels} channels for latents of {channels}"
    if vae.config.get("latents_mean") is not None:
        yield "its autoencoder has latents_mean, which is not supported"


def _problems_of_conditioning(pipeline: DiffusionPipeline, addition_embed_type: str | None) -> Iterator[str]:
    config = pipeline.unet.config
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        yield "its UNet needs class labels (class_embed_type or num_class_embeds), which are not supported"
    if config.encoder_hid_dim_type not in TEXT_ONLY:
        yield (
            f"its UNet needs embeddings of an image (encoder_hid_dim_type {config.encoder_hid_dim_type}), which are "
            "not supported; call unload_ip_adapter() where an IP-Adapter was loaded"
        )
    elif _prompt_size(config) not in (None, sum(_encoder_sizes(pipeline))):
        found = " + ".join(map(str, _encoder_sizes(pipeline)))
        yield f"its UNet takes prompt embeddings of size {_prompt_size(config)}, and its text encoders make {found}"
    if config.addition_embed_type not in {None, "text", addition_embed_type}:
        yield f"its UNet needs the inputs of addition_embed_type {config.addition_embed_type}, which are not provided"
    elif config.addition_embed_type == "text_time" and config.sample_size is None:
        yield "its UNet has no sample_size, which the time ids tell"
    elif config.addition_embed_type == "text_time":
        expected = 6 * config.addition_time_embed_dim + pipeline.text_encoder_2.config.projection_dim
        if config.projection_class_embeddings_input_dim != expected:
            yield (
                f"its UNet takes {config.projection_class_embeddings_input_dim} numbers as text and time embeddings "
                f"(projection_class_embeddings_input_dim), and six time ids make {expected}. SDXL refiners, which take "
                "an aesthetic score, are not supported"
            )


def _prompt_size(config: Any) -> int | None:
    """Returns D of the prompt embeddings that a UNet takes. None where its blocks take several sizes."""
    size = config.cross_attention_dim if config.encoder_hid_dim_type is None else config.encoder_hid_dim
    sizes = set(size) if isinstance(size, list | tuple) else {size}
    return sizes.pop() if len(sizes) == 1 else None


def _encoder_sizes(pipeline: DiffusionPipeline) -> list[int]:
    encoders = (getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2"))
    return [encoder.config.hidden_size for encoder in encoders if encoder is not None]
