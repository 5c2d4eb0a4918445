"""LoRA weights merged into a pipeline's networks."""

from __future__ import annotations

import logging
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError

from renoise.errors import InputError, InputWarning

UNFIT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What loaders raise for weights that belong to something else."""
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
    try:
        with _listening() as told:
            pipeline.load_lora_weights(source, weight_name=name, use_safetensors=True)
    except (*UNFIT, OSError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 240, placeholder=" …")
        raise InputError(f"model.lora: {lora} cannot be loaded into this {family}: {reason}") from error
    for message in told:
        if "unexpected keys" in message:
            warnings.warn(f"model.lora: {textwrap.shorten(message, 240, placeholder=' …')}", InputWarning, stacklevel=2)
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
    if not Path(source).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise InputError(f"model.lora must be a hub id, a folder or a .safetensors file; there is no {lora}")
    return source, name


class _Listener(logging.Handler):
    """Keeps the messages that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Keeps what diffusers' loaders log, at length and mostly of parts that a LoRA leaves alone, off the screen."""
    listener = _Listener()
    logger = diffusers_logging.get_logger("diffusers")
    before, logger.handlers = logger.handlers, [listener]
    try:
        yield listener.messages
    finally:
        logger.handlers = before


def _is_adapted(part: Any) -> bool:
    """Whether a LoRA has been attached to a layer of this part of the pipeline."""
    modules = getattr(part, "modules", None)
    return modules is not None and any(isinstance(module, BaseTunerLayer) for module in modules())
