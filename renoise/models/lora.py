"""Merges LoRA weights into the networks of a pipeline."""

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

MISMATCH_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What loaders raise for weights of another model."""
DEFAULT_FILE = "pytorch_lora_weights.safetensors"
"""The file that is read from a folder or hub repository."""


def merge_lora(pipeline: DiffusionPipeline, lora: str) -> None:
    """Adds a LoRA to the weights themselves, so the networks keep their layers and their speed.

    Args:
        pipeline: Its networks are changed.
        lora: A hub id or a local folder, or the path of a .safetensors file in either. Without a file name, it is
            `DEFAULT_FILE`.

    Raises:
        InputError: The LoRA does not exist, is damaged, or matches no layer of the pipeline.
    """
    family = type(pipeline).__name__
    source, name = _locate(lora)
    try:
        with _captured_log() as messages:
            pipeline.load_lora_weights(source, weight_name=name, use_safetensors=True)
    except (*MISMATCH_ERRORS, OSError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 240, placeholder=" …")
        raise InputError(f"lora: {lora} cannot be loaded into this {family}: {reason}") from error
    for message in messages:
        if "unexpected keys" in message:
            warnings.warn(
                f"lora: {textwrap.shorten(message, 240, placeholder=' …')}",
                InputWarning,
                stacklevel=2,
            )
    if not any(_is_adapted(part) for part in pipeline.components.values()):
        raise InputError(f"lora: {lora} matches no layer of this {family}")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def _locate(lora: str) -> tuple[str, str]:
    """Returns the folder or hub id, and the name of the file in it."""
    if lora.endswith(".safetensors"):
        source, _, name = lora.rpartition("/")
        source = source or "."
    else:
        source, name = lora, DEFAULT_FILE
    if not Path(source).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise InputError(f"lora must be a hub id, a folder or a .safetensors file; {lora} does not exist")
    return source, name


class _MessageHandler(logging.Handler):
    """Collects log messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Collects what diffusers' loaders log instead of printing it: most of it is about parts that the LoRA omits."""
    handler = _MessageHandler()
    logger = diffusers_logging.get_logger("diffusers")
    handlers = logger.handlers
    logger.handlers = [handler]
    try:
        yield handler.messages
    finally:
        logger.handlers = handlers


def _is_adapted(part: Any) -> bool:
    """Returns whether a LoRA is attached to a layer of this part of the pipeline."""
    modules = getattr(part, "modules", None)
    return modules is not None and any(isinstance(module, BaseTunerLayer) for module in modules())
