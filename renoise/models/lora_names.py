"""The names that LoRA files give to the layers of a network."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

PARTS = {
    "unet.": "unet",
    "transformer.": "transformer",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""Prefixes of a key, and the part of a pipeline that each means: diffusers' names and kohya's."""
TENSORS = {
    "down": r"\.lora_down\.weight|\.lora_A(?:\.\w+)?\.weight|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight",
    "up": r"\.lora_up\.weight|\.lora_B(?:\.\w+)?\.weight|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight",
    "alpha": r"\.alpha",
    "magnitude": r"\.lora_magnitude_vector(?:\.\w+)*",
}
"""Ends of the keys of a layer's tensors: kohya's, peft's, diffusers' and diffusers' old ones."""
KEY = re.compile(
    rf"(?P<part>{'|'.join(map(re.escape, PARTS))})(?P<layer>.+?)"
    rf"(?:{'|'.join(f'(?P<{tensor}>{end})' for tensor, end in TENSORS.items())})"
)
LDM_LAYERS = {
    r"conv_in": "input_blocks.0.0",
    r"conv_out": "out.2",
    r"time_embedding\.linear_1": "time_embed.0",
    r"time_embedding\.linear_2": "time_embed.2",
    r"add_embedding\.linear_1": "label_emb.0.0",
    r"add_embedding\.linear_2": "label_emb.0.2",
    r"mid_block\.resnets\.0": "middle_block.0",
    r"mid_block\.attentions\.0": "middle_block.1",
    r"mid_block\.resnets\.1": "middle_block.2",
    r"(.*)\.conv1": r"\1.in_layers.2",
    r"(.*)\.conv2": r"\1.out_layers.3",
    r"(.*)\.time_emb_proj": r"\1.emb_layers.1",
    r"(.*)\.conv_shortcut": r"\1.skip_connection",
}
"""Names of layers and blocks in diffusers, as patterns, and in the UNet of Stability AI's code."""


def parse_key(key: str) -> tuple[str, str, str] | None:
    """Returns the part of the pipeline, the name of the layer and what its tensor is, one of `TENSORS`.

    Args:
        key: A key of a LoRA file.

    Returns:
        None where the key is not one of a LoRA.

    Example:
        >>> from renoise.models.lora_names import parse_key
        >>> parse_key("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight")
        ('unet', 'mid_block_attentions_0_proj_in', 'down')
        >>> parse_key("unet.mid_block.attentions.0.proj_in.lora_A.weight")
        ('unet', 'mid_block_attentions_0_proj_in', 'down')
    """
    match = KEY.fullmatch(key)
    if match is None:
        return None
    layer = match["layer"].replace(".processor.", ".").replace(".", "_").removeprefix("text_model_")
    return PARTS[match["part"]], layer, next(tensor for tensor in TENSORS if match[tensor] is not None)


def layers_by_name(network: nn.Module) -> dict[str, str]:
    """Returns the path of each linear and convolutional layer of a network by all names that files give it.

    The names are as `parse_key` returns them: diffusers' own, those of diffusers' old attention processors, and, of a
    UNet, those of Stability AI's code, which kohya's trainer uses for SDXL.
    """
    names: dict[str, str] = {}
    for path, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            for name in (path, *_old_names(path), *_ldm_names(path, network)):
                names[name.replace(".", "_").removeprefix("text_model_")] = path
    return names


def _old_names(path: str) -> Iterator[str]:
    """Yields the name in diffusers' old attention processors, where the layer has one."""
    if path.endswith(".to_out.0"):
        yield path.removesuffix(".0")
    for kind in ("q", "k", "v", "out"):
        if path.endswith(f"self_attn.{kind}_proj"):
            yield f"{path.removesuffix(f'{kind}_proj')}to_{kind}"


def _ldm_names(path: str, network: nn.Module) -> Iterator[str]:
    """Yields the layer's name in the UNet of Stability AI's code, where it has another there."""
    config = getattr(network, "config", None)
    layers = getattr(config, "layers_per_block", None)
    if not isinstance(layers, int):
        return
    name = path
    block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(.*)", path)
    if block is not None:
        side, kind, rest = block[1], block[3], block[5]
        first, position = int(block[2]) * (layers + 1), int(block[4])  # each block has one more: its sampler
        if kind == "downsamplers":
            name = f"input_blocks.{first + layers + 1}.0.op"
        elif kind == "upsamplers":
            after_attention = hasattr(network.get_submodule(f"up_blocks.{block[2]}"), "attentions")
            name = f"output_blocks.{first + layers}.{2 if after_attention else 1}.conv"
        else:
            number = first + position + (1 if side == "down" else 0)
            name = f"{'input' if side == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}{rest}"
    for pattern, replacement in LDM_LAYERS.items():
        name = re.sub(rf"^{pattern}(?=\.|$)", replacement, name)
    if name != path:
        yield name
