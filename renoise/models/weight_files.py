"""Reads the .safetensors files that people add to a checkpoint: LoRA weights and textual inversions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError, safe_open

from renoise.errors import InputError
from renoise.utils.hub import check_hub

HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)(?:/(.+\.safetensors))?")
"""A hub id, or the path of a file in a hub repository."""
CONVERT = (
    "; to convert a file that torch.save wrote, load it with weights_only=True and write it with "
    "safetensors.torch.save_file, see docs/lora.md"
)
"""What to do with a file of another format."""


@dataclass(frozen=True)
class WeightFile:
    """The contents of a .safetensors file.

    Args:
        stem: Its name without the extension.
        tensors: Its tensors by key, on the CPU, in the types of the file.
        metadata: Its metadata.
    """

    stem: str
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def read_weights(source: str, default_name: str, option: str) -> WeightFile:
    """Reads a local file, or downloads it from the hub.

    Args:
        source: A hub id or a local folder, or the path of a .safetensors file in either.
        default_name: The file that is read where `source` names none.
        option: What the messages begin with.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    path = _path(source, default_name, option)
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, a safe_open is no mapping
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{option}: {source} cannot be loaded, the file is damaged: {error}") from error
    broken = [key for key, tensor in tensors.items() if not tensor.float().isfinite().all()]
    if broken:
        raise InputError(f"{option}: {source} contains NaN or infinity, for example in {broken[0]}")
    return WeightFile(path.stem, tensors, metadata)


def _path(source: str, default_name: str, option: str) -> Path:
    """Returns the local path of a file, which is downloaded where it is on the hub."""
    local = Path(source)
    if local.is_file() and local.suffix != ".safetensors":
        raise InputError(f"{option}: {source} is not a .safetensors file, and only those are loaded{CONVERT}")
    if local.is_file():
        return local
    if local.is_dir():
        if (local / default_name).is_file():
            return local / default_name
        others = ", ".join(sorted(path.name for path in local.glob("*.safetensors"))[:3])
        advice = f"; name a file in it, such as {others}" if others else ""
        raise InputError(f"{option}: {source} has no {default_name}{advice}")
    named = HUB_FILE.fullmatch(source)
    if named is None or Path(named[1]).exists() or (source.endswith(".safetensors") and named[2] is None):
        raise InputError(f"{option} must be a hub id, a folder or a .safetensors file; {source} does not exist")
    only_cached = check_hub(named[1], named[2] or default_name, option)
    try:
        return Path(hf_hub_download(named[1], named[2] or default_name, local_files_only=only_cached))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{option}: {source} cannot be loaded: {reason}") from error
