"""Loads a checkpoint that is one .safetensors file, as model-sharing sites offer them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError, fetch_diffusers_config
from safetensors import SafetensorError, safe_open
from torch import nn

from renoise.errors import InputError

NETWORK_PREFIX = "model.diffusion_model."
"""What the names of the network's weights begin with in such a file."""


def find_config(path: Path) -> str:
    """Returns where the configuration of a single file is: its own folder, or the hub id of the model it derives from.

    Args:
        path: The file. Where `model_index.json` is beside it, its folder holds the configuration of the parts.

    Raises:
        InputError: The file is no .safetensors file, is damaged, or is not a whole checkpoint.
    """
    if path.suffix != ".safetensors":
        raise InputError(
            f"checkpoint: {path} is not a .safetensors file, and only those are loaded: others can run code. If you "
            f"trust it, convert it once: diffusers.StableDiffusionPipeline.from_single_file({path.name!r})"
            ".save_pretrained(FOLDER)"
        )
    try:
        with safe_open(path, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint: {path} cannot be read, the file is damaged: {error}") from error
    if not any(key.startswith(NETWORK_PREFIX) for key in shapes):
        raise InputError(
            f"checkpoint: {path} is not a whole checkpoint: none of its weights is named {NETWORK_PREFIX}*. Give a "
            "LoRA as lora, and a part of a pipeline by the folder of the whole pipeline"
        )
    if (path.parent / "model_index.json").is_file():
        return str(path.parent)
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    return str(fetch_diffusers_config(weights)["pretrained_model_name_or_path"])


def load_single_file(
    path: Path,
    config: str,
    index: Mapping[str, Any],
    dtype: torch.dtype,
    parts: Mapping[str, Any],
    only_cached: bool = False,
) -> DiffusionPipeline:
    """Loads a single file with the configuration that `find_config` found.

    Args:
        path: The file.
        config: A folder or hub id, of which no weights are read.
        index: The contents of its `model_index.json`.
        dtype: Type of the weights.
        parts: Parts that are left out, as None, or already loaded.
        only_cached: Whether to take what the hub's cache has of the configuration, because the hub cannot be reached.

    Raises:
        InputError: The file lacks weights, or they do not fit the configuration.
    """
    kind = getattr(diffusers, str(index["_class_name"]))
    try:
        pipeline: DiffusionPipeline = kind.from_single_file(
            str(path), config=config, torch_dtype=dtype, local_files_only=only_cached, **parts
        )
    except (KeyError, AttributeError, ValueError, RuntimeError, OSError, SingleFileComponentError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"checkpoint: {path} cannot be loaded with the configuration of {config}: {reason}. Convert it to a folder "
            "with diffusers' own script, or put it beside the model_index.json of the model that it derives from"
        ) from error
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    empty = [name for name, part in networks.items() if any(weight.is_meta for weight in part.parameters())]
    if empty:
        raise InputError(f"checkpoint: {path} lacks weights of {' and '.join(empty)}")
    return pipeline
