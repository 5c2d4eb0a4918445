"""A progress bar over the steps of a sampler."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")

_shown: ContextVar[bool] = ContextVar("shown", default=False)


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yields the items, with a progress bar where the loop runs inside `show_progress`.

    Args:
        items: Items of the loop.
        description: Text before the bar.

    Example:
        >>> from renoise.utils.progress import track
        >>> list(track([3, 2, 1], "Inverting"))
        [3, 2, 1]
    """
    yield from tqdm(items, desc=description, disable=not _shown.get(), leave=False)


@contextmanager
def show_progress(enabled: bool | None = None) -> Iterator[None]:
    """Shows a progress bar for every `track` inside the block.

    Args:
        enabled: Whether to show it; None shows it where stderr is a terminal.
    """
    token = _shown.set(sys.stderr.isatty() if enabled is None else enabled)
    try:
        yield
    finally:
        _shown.reset(token)
