"""LoRA weights merged into a pipeline's networks."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError

from renoise.errors import InputError

FILE = "pytorch_lora_weights.safetensors"
"""What a folder or hub repository calls its LoRA unless it is named."""


def merge_lora(pipeline: DiffusionPipeline, lora: str) -> None:
    """Adds a LoRA to the weights themselves, so that networks keep their layers and their speed.

    Args:
        pipeline: whose networks change.
        lora: a hub id or a local folder, either with the `.safetensors` file inside or (for `FILE`) without.

    Raises:
        InputError: no such LoRA, a damaged one, or one that fits no layer of the pipeline.
    """
    family, (source, name) = type(pipeline).__name__, _located(lora)
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.CRITICAL)  # it tells at length of parts that a LoRA leaves alone
    try:
        pipeline.load_lora_weights(source, weight_name=name, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 240, placeholder=" …")
        raise InputError(f"model.lora: {lora} cannot be loaded into this {family}: {reason}") from error
    finally:
        diffusers_logging.set_verbosity(verbosity)
    if not any(_is_adapted(part) for part in pipeline.components.values()):
        raise InputError(f"model.lora: {lora} fits no layer of this {family}")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def _located(lora: str) -> tuple[str, str]:
    """The folder or hub id, and the file in it."""
    if lora.endswith(".safetensors"):
        source, _, name = lora.rpartition("/")
        source = source or "."
    else:
        source, name = lora, FILE
    if not Path(source).is_dir() and source.count("/") != 1:
        raise InputError(f"model.lora must be a hub id, a folder or a .safetensors file; there is no {lora}")
    return source, name


def _is_adapted(part: Any) -> bool:
    """Whether a LoRA has been attached to a layer of this part of the pipeline."""
    modules = getattr(part, "modules", None)
    return modules is not None and any(isinstance(module, BaseTunerLayer) for module in modules())
