"""Writes a miniature Stable Diffusion 1.x as one file, under the names of the original implementation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

LAYERS = 1
"""`layers_per_block` of the miniature."""
UNET_NAMES = {
    r"^time_embedding\.linear_1": "time_embed.0",
    r"^time_embedding\.linear_2": "time_embed.2",
    r"^conv_in": "input_blocks.0.0",
    r"^conv_norm_out": "out.0",
    r"^conv_out": "out.2",
    r"^mid_block\.resnets\.(\d)": lambda m: f"middle_block.{2 * int(m[1])}",
    r"^mid_block\.attentions\.0": "middle_block.1",
    r"^down_blocks\.(\d)\.resnets\.(\d)": lambda m: f"input_blocks.{1 + int(m[1]) * (LAYERS + 1) + int(m[2])}.0",
    r"^down_blocks\.(\d)\.attentions\.(\d)": lambda m: f"input_blocks.{1 + int(m[1]) * (LAYERS + 1) + int(m[2])}.1",
    r"^down_blocks\.(\d)\.downsamplers\.0\.conv": lambda m: f"input_blocks.{(int(m[1]) + 1) * (LAYERS + 1)}.0.op",
    r"^up_blocks\.(\d)\.resnets\.(\d)": lambda m: f"output_blocks.{int(m[1]) * (LAYERS + 1) + int(m[2])}.0",
    r"^up_blocks\.(\d)\.attentions\.(\d)": lambda m: f"output_blocks.{int(m[1]) * (LAYERS + 1) + int(m[2])}.1",
    r"^up_blocks\.(\d)\.upsamplers\.0\.conv": lambda m: f"output_blocks.{int(m[1]) * (LAYERS + 1) + LAYERS}.2.conv",
    r"\.norm1\.(?=\w+$)": ".in_layers.0.",
    r"\.conv1\.": ".in_layers.2.",
    r"\.time_emb_proj\.": ".emb_layers.1.",
    r"\.norm2\.(?=\w+$)": ".out_layers.0.",
    r"\.conv2\.": ".out_layers.3.",
    r"\.conv_shortcut\.": ".skip_connection.",
}
"""Diffusers' names in a UNet and the original ones. Those in `transformer_blocks` are the same in both."""
VAE_NAMES = {
    r"\.mid_block\.resnets\.(\d)": lambda m: f".mid.block_{int(m[1]) + 1}",
    r"\.down_blocks\.(\d)\.resnets": r".down.\1.block",
    r"\.down_blocks\.(\d)\.downsamplers\.0": r".down.\1.downsample",
    r"\.up_blocks\.(\d)\.resnets": lambda m: f".up.{2 - int(m[1])}.block",
    r"\.up_blocks\.(\d)\.upsamplers\.0": lambda m: f".up.{2 - int(m[1])}.upsample",
    r"\.conv_norm_out": ".norm_out",
    r"\.conv_shortcut": ".nin_shortcut",
}


def write_single_file(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Writes the weights of a pipeline like `data/models/tiny-sd`."""
    text_model = {
        f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in _state(pipeline, "text_encoder")
    }
    weights = {f"cond_stage_model.transformer.{name}": weight for name, weight in text_model.items()}
    for name, weight in _state(pipeline, "unet"):
        weights[f"model.diffusion_model.{_renamed(name, UNET_NAMES)}"] = weight
    for name, weight in _state(pipeline, "vae"):
        weights[f"first_stage_model.{_renamed(name, VAE_NAMES)}"] = weight
    save_file(weights, path)


def _state(pipeline: StableDiffusionPipeline, part: str) -> list[tuple[str, torch.Tensor]]:
    return [(name, weight.contiguous()) for name, weight in getattr(pipeline, part).state_dict().items()]


def _renamed(name: str, names: Mapping[str, object]) -> str:
    for pattern, original in names.items():
        if not ("transformer_blocks" in name and pattern.startswith(r"\.")):
            name = re.sub(pattern, original, name)  # type: ignore[call-overload]
    return name
