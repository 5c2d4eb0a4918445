"""What is shown while something runs: bars, and lines about what has begun. All of it goes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")
Bar = Callable[[Sequence[Any], str], Iterator[Any]]
"""Yields the items of a loop and shows how far it is; the text describes the loop."""

_bar: ContextVar[Bar | None] = ContextVar("bar", default=None)


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yields the items, with a progress bar where the loop runs inside `show_progress`.

    Args:
        items: Items of the loop.
        description: Text before the bar.

    Example:
        >>> from renoise.utils.progress import track
        >>> list(track([3, 2, 1], "inverting"))
        [3, 2, 1]
    """
    bar = _bar.get()
    yield from items if bar is None else bar(items, description)


def report(text: str) -> None:
    """Prints a line about what begins now, where it runs inside `show_progress`."""
    if _bar.get() is not None:
        tqdm.write(text, file=sys.stderr)


def tqdm_bar(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yields the items, with a bar of tqdm that disappears at the end."""
    yield from tqdm(items, desc=description, leave=False)


@contextmanager
def show_progress(enabled: bool | None = None, bar: Bar = tqdm_bar) -> Iterator[None]:
    """Shows a progress bar for every `track` inside the block, and the lines of `report`.

    Args:
        enabled: Whether to show them; None leaves it to the block outside, and where there is none, shows them where
            stderr is a terminal.
        bar: What shows the bar.
    """
    outside = _bar.get()
    if enabled is None and outside is not None:
        bar, enabled = outside, True
    token = _bar.set(bar if (is_terminal() if enabled is None else enabled) else None)
    try:
        yield
    finally:
        _bar.reset(token)


@contextmanager
def status(text: str) -> Iterator[None]:
    """Shows a line on the terminal while the block runs. It disappears at the end."""
    if not is_terminal():
        yield
        return
    print(text, end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\033[K", end="", file=sys.stderr, flush=True)  # the cursor is at the start of the line


def is_terminal() -> bool:
    """Returns whether stderr is a terminal, and this is the first process of the run on this machine."""
    return sys.stderr.isatty() and os.environ.get("LOCAL_RANK", "0") == "0"
