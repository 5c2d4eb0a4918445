"""Says what is being loaded and how much of it is there, because large checkpoints take minutes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from renoise.models.checkpoint_files import WEIGHTS
from renoise.utils.progress import report

LOADED = re.compile(r"Loaded (\w+) as ")
"""diffusers' message after each part, at the level INFO. Their order is not that of `model_index.json`."""


@contextmanager
def reported_loading(checkpoint: str, folder: Path, parts: Sequence[str], variant: str | None) -> Iterator[None]:
    """Reports the size of the weights that diffusers loads inside the block, and every part when it is loaded.

    Args:
        checkpoint: Its name.
        folder: Its folder.
        parts: Names of the parts. A name without weights is ignored.
        variant: diffusers' `variant` of the weights.
    """
    sizes = {part: _size(folder / part, variant) for part in parts}
    logger = logging.getLogger("diffusers.pipelines.pipeline_utils")
    level, lowest = logger.level, logger.getEffectiveLevel()

    def see(record: logging.LogRecord) -> bool:
        loaded = LOADED.match(record.getMessage())
        if loaded and sizes.get(loaded[1]):
            report(f"  loaded {loaded[1]} ({_text(sizes[loaded[1]])})")
        return record.levelno >= lowest  # whether the message is shown

    report(f"loading {checkpoint} ({_text(sum(sizes.values()))}) …")
    logger.addFilter(see)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeFilter(see)


def _size(part: Path, variant: str | None) -> int:
    """Returns the bytes of a part's weights. A part without this variant has its plain weights."""
    sizes: dict[str | None, int] = {}
    for path in part.glob("*.safetensors"):
        name = WEIGHTS.fullmatch(path.name)
        if name is not None:
            sizes[name["variant"]] = sizes.get(name["variant"], 0) + path.stat().st_size
    return sizes.get(variant) or sizes.get(None, 0)


def _text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
