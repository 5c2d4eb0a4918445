"""Checkpoints of the true architectures and sizes with random weights, for what does not depend on what weights say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerBase,
)

CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
OPEN_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
OPEN_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
SD_UNET = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280)}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "sd15": {"unet": {**SD_UNET, "cross_attention_dim": 768, "attention_head_dim": 8}, "text_encoders": [CLIP_L]},
    "sd21": {
        "unet": {
            **SD_UNET,
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        "text_encoders": [OPEN_CLIP_H],
    },
    "sdxl": {
        "unet": {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "text_encoders": [CLIP_L, OPEN_CLIP_G],
    },
}
"""Settings of the published configurations that differ from the defaults of the classes."""
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def parts_of(family: str) -> dict[str, nn.Module]:
    """Returns the networks of a family without memory for their weights (on the device "meta"), in float16.

    Args:
        family: A name in `FAMILIES`.

    Example:
        >>> from benchmarks.shared.full_size import parts_of
        >>> unet = parts_of("sdxl")["unet"]
        >>> f"{sum(weight.numel() for weight in unet.parameters()) / 1e9:.2f} billion weights"
        '2.57 billion weights'
    """
    settings, kinds = FAMILIES[family], (CLIPTextModel, CLIPTextModelWithProjection)
    sample_size = 8 * settings["unet"]["sample_size"]
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {
            "unet": UNet2DConditionModel(**settings["unet"]),
            "vae": AutoencoderKL(**VAE, sample_size=sample_size),
        }
        for number, text_encoder in enumerate(settings["text_encoders"]):
            config = CLIPTextConfig(**text_encoder, vocab_size=49408, projection_dim=text_encoder["hidden_size"])
            parts["text_encoder_2" if number else "text_encoder"] = kinds[number](config)
    return {name: part.half().requires_grad_(False) for name, part in parts.items()}


def random_unet(family: str) -> nn.Module:
    """Returns the UNet of a family with random weights, in float16 on the CPU.

    Args:
        family: A name in `FAMILIES`.
    """
    return _fill(parts_of(family)["unet"])


def write_checkpoint(folder: Path, family: str, tokenizer: Path) -> None:
    """Writes a checkpoint in float16, in diffusers layout.

    Args:
        folder: Where to. An SDXL takes 6.9 GB.
        family: A name in `FAMILIES`.
        tokenizer: Folder of a CLIP tokenizer, whatever its vocabulary.
    """
    parts: dict[str, Any] = {name: _fill(part) for name, part in parts_of(family).items()}
    words: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer, model_max_length=77)
    for name in [name for name in parts if name.startswith("text_encoder")]:
        parts[name.replace("text_encoder", "tokenizer")] = words
        parts[name].config.update({"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id})
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",  # a random network predicts no noise, which loading checks
    )
    if family == "sdxl":
        pipeline: DiffusionPipeline = StableDiffusionXLPipeline(**parts, scheduler=scheduler)
    else:
        unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**parts, scheduler=scheduler, **unused)
    pipeline.save_pretrained(folder)


def _fill(part: nn.Module) -> nn.Module:
    """Gives a network weights: noise of standard deviation 0.02, and ones in the layers that normalize."""
    noise = 0.02 * torch.randn(1 << 20, dtype=torch.float32).half()
    part = part.to_empty(device="cpu")
    for name, weight in part.named_parameters():
        if name.endswith("weight") and weight.dim() == 1:
            weight.fill_(1)
        else:
            weight.flatten().copy_(noise.repeat(-(-weight.numel() // len(noise)))[: weight.numel()])
    return part
