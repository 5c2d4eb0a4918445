"""Merges LoRA weights into the networks of a pipeline: W + α/r · B A."""

from __future__ import annotations

import json
import math
import re
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline

from renoise.errors import InputError, InputWarning
from renoise.models.lora_names import layers_by_name, parse_key
from renoise.models.weight_files import read_weights

DEFAULT_FILE = "pytorch_lora_weights.safetensors"
"""The file that is read from a folder or hub repository."""
METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers keeps peft's configuration in the metadata of a file."""
OTHER_METHODS = {
    "a DoRA in LyCORIS form": r"\.dora_scale$",
    "a LoHa of LyCORIS": r"\.hada_",
    "a LoKr of LyCORIS": r"\.lokr_",
    "an (IA)³ of LyCORIS": r"\.on_input$",
    "a GLoRA of LyCORIS": r"\.[ab][12]\.weight$",
    "an OFT or BOFT": r"\.(oft_|boft_)",
    "a LoCon of LyCORIS with Tucker decomposition": r"\.lora_mid\.",
    "a LoRA of LyCORIS with trained norms or scalars": r"\.(w_norm|b_norm|scalar)$",
    "a full difference of weights": r"\.diff(_b)?$",
    "a PEFT adapter, which diffusers' save_lora_weights must write again": r"^base_model\.",
}
"""What a key says of a file that is no plain LoRA."""
LINE = 400
"""Most characters of a list of names in a message."""

TEXT_MODEL = "text_model."
Layers = dict[tuple[str, str], dict[str, str]]
"""The keys of each layer's tensors, by the part of the pipeline and the name or path of the layer; see `parse_key`."""


def merge_lora(pipeline: DiffusionPipeline, lora: str) -> None:
    """Adds a LoRA to the weights themselves, so the networks keep their layers and their speed.

    diffusers' own loaders are not used: they log what they drop, and apply one α to layers of different α.

    Args:
        pipeline: Its networks are changed.
        lora: A hub id or a local folder, or the path of a .safetensors file in either. Without a file name, it is
            `DEFAULT_FILE`. It is a LoRA, or a DoRA of peft, under the names of peft, diffusers or kohya.

    Raises:
        InputError: The LoRA does not exist, is damaged, is of another method, or is for another model.

    Warns:
        InputWarning: Some layers of the LoRA do not exist in the pipeline.
    """
    family = type(pipeline).__name__
    file = read_weights(lora, DEFAULT_FILE, "lora")
    config = _peft_config(file.metadata, lora)
    targets = _targets(pipeline, _by_layer(file.tensors, lora), lora)
    updates = {target: {kind: file.tensors[key] for kind, key in keys.items()} for target, keys in targets.items()}
    for (part, path), tensors in updates.items():
        weight = getattr(pipeline, part).get_submodule(path).weight
        _check_shapes(weight, tensors, f"lora: {lora} cannot be loaded into this {family}: {part}.{path}")
    for (part, path), tensors in updates.items():
        weight = getattr(pipeline, part).get_submodule(path).weight
        scale = _scale(tensors, part, path, config)
        weight.data = merge(weight, tensors["down"], tensors["up"], scale, tensors.get("magnitude"))


@torch.no_grad()
def merge(
    weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scale: float, magnitude: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns W' = W + s · B A, computed in float32. A DoRA's is m · W' / ‖W'‖, with one norm for each output.

    Args:
        weight: W, [out, in] or [out, in, height, width].
        down: A, [r, in] or [r, in, height, width].
        up: B, [out, r] or [out, r, 1, 1].
        scale: s, usually α/r.
        magnitude: m of a DoRA (arXiv 2402.09353, equation 5), of `out` elements.

    Example:
        >>> import torch
        >>> from renoise.models.lora import merge
        >>> merge(torch.eye(2), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]), scale=0.5)
        tensor([[2.5000, 3.0000],
                [2.0000, 5.0000]])
    """
    merged = weight.float() + scale * (up.float().flatten(1) @ down.float().flatten(1)).reshape(weight.shape)
    if magnitude is not None:
        factor = magnitude.float().flatten() / merged.flatten(1).norm(dim=1)
        merged = merged * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return merged.to(weight.dtype)


def _by_layer(keys: Iterable[str], lora: str) -> Layers:
    """Groups the keys of a file by layer. Raises InputError for a key that is not one of a LoRA."""
    layers: Layers = defaultdict(dict)
    unknown = []
    for key in keys:
        parsed = parse_key(key)
        if parsed is None:
            unknown.append(key)
            continue
        part, name, kind = parsed
        other = layers[part, name].setdefault(kind, key)
        if other != key:
            raise InputError(f"lora: {lora} has two updates of one layer: {other} and {key}")
    for method, pattern in OTHER_METHODS.items():
        found = [key for key in unknown if re.search(pattern, key)]
        if found:
            raise InputError(f"lora: {lora} is {method}, which is not supported: it has keys such as {found[0]}")
    if unknown or not layers:
        keys = f": {_short(unknown)}" if unknown else ""
        raise InputError(f"lora: {lora} has {len(unknown) or 'no'} keys that are not those of a LoRA{keys}")
    halves = [key for layer in layers.values() if not {"down", "up"} <= layer.keys() for key in layer.values()]
    if halves:
        raise InputError(f"lora: {lora} lacks a matrix of the layers with these keys: {_short(halves)}")
    return dict(layers)


def _targets(pipeline: DiffusionPipeline, layers: Layers, lora: str) -> Layers:
    """Returns the layers under their paths in the networks, and warns of those that the pipeline does not have."""
    family = type(pipeline).__name__
    networks = {part: getattr(pipeline, part, None) for part, _ in layers}
    paths = {part: layers_by_name(network) for part, network in networks.items() if network is not None}
    targets: Layers = {}
    absent = []
    for (part, name), keys in layers.items():
        path = paths.get(part, {}).get(name)
        if path is None:
            absent.append(keys["down"])
        elif (part, path) in targets:
            raise InputError(f"lora: {lora} has two updates of {part}.{path}; one of them is {keys['down']}")
        else:
            targets[part, path] = keys
    if not targets:
        raise InputError(f"lora: {lora} matches no layer of this {family}; it has keys such as {absent[0]}")
    if absent:
        count = f"{len(absent)} of its {len(layers)} layers"
        warnings.warn(
            f"lora: {lora}: {count} do not exist in this {family} and are left out: {_short(absent)}",
            InputWarning,
            stacklevel=3,
        )
    return targets


def _peft_config(metadata: Mapping[str, str], lora: str) -> dict[str, Any]:
    """Returns peft's configuration that diffusers keeps in a file, with the part of the pipeline before each name."""
    try:
        config = json.loads(metadata.get(METADATA_KEY) or "{}")
    except ValueError as error:
        raise InputError(f"lora: {lora} has damaged metadata ({METADATA_KEY}): {error}") from error
    for option, value in config.items():
        if option.endswith(".init_lora_weights") and value not in (True, False, "gaussian"):
            raise InputError(f"lora: {lora} was trained with {option} {value}, which also changes the model's weights")
    return dict(config)


def _scale(tensors: Mapping[str, torch.Tensor], part: str, path: str, config: Mapping[str, Any]) -> float:
    """Returns α/r of a layer: α of the file, else of peft's configuration, else r."""
    rank = len(tensors["down"])
    if "alpha" in tensors:
        return float(tensors["alpha"]) / rank
    patterns: dict[str, float] = config.get(f"{part}.alpha_pattern") or {}
    name = path.removeprefix(TEXT_MODEL)  # a level that transformers 5 left out of some text encoders
    matching = (
        alpha
        for pattern, alpha in patterns.items()
        if re.fullmatch(rf"(.*\.)?({pattern.removeprefix(TEXT_MODEL)})", name)
    )
    alpha = next(matching, config.get(f"{part}.lora_alpha", rank))
    return float(alpha) / (math.sqrt(rank) if config.get(f"{part}.use_rslora") else rank)


def _check_shapes(weight: torch.Tensor, tensors: Mapping[str, torch.Tensor], subject: str) -> None:
    """Raises InputError where B A has not the shape of a layer's weight."""
    down, up = tensors["down"], tensors["up"]
    fits = (
        min(down.ndim, up.ndim) >= 2
        and down.shape[1:].numel() == weight.shape[1:].numel()
        and up.shape[1:].numel() == len(down) > 0
        and len(up) == len(weight)
        and tensors.get("magnitude", up[:, 0]).numel() == len(weight)
        and tensors.get("alpha", torch.ones(())).numel() == 1
    )
    if not fits:
        found = ", ".join(f"{kind} {list(tensor.shape)}" for kind, tensor in tensors.items())
        raise InputError(f"{subject} has a weight of {list(weight.shape)}, and the LoRA has {found}")


def _short(names: Iterable[str]) -> str:
    """Returns names in one line, the first ones where they are many."""
    return textwrap.shorten(", ".join(names), LINE, placeholder=" …")
