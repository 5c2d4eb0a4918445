"""One task at a time on the model: each runs in a thread of its own, and can be stopped between two steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from renoise.errors import InputError
from renoise.utils.progress import show_progress

Result = TypeVar("Result")
MAX_SECONDS = 600.0
"""How long one task may take."""
LOOK = 0.5
"""Seconds after which a task that waits looks whether it was stopped, and after which its progress is told again."""


class StoppedError(Exception):
    """The visitor stopped the task, or left."""


@dataclass(frozen=True)
class Progress:
    """How far a task is.

    Args:
        description: What it does, such as "inverting".
        done: Number of steps that are done.
        total: Number of all steps.
    """

    description: str
    done: int
    total: int


@dataclass(frozen=True)
class Task:
    """A task of a visitor, from asking for the model to its end.

    Args:
        stop: Whether it is to end after its step.
        ended: Whether it has ended.
    """

    stop: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)


class Turns:
    """Gives visitors the model in turn.

    Args:
        max_seconds: How long one task may take.
    """

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self.max_seconds = max_seconds
        self._model = Lock()

    def run(self, work: Callable[[], Result], task: Task) -> Generator[Progress, None, Result]:
        """Runs a task as soon as the model is free, and yields how far it is: after each step, and while it waits.

        The task ends between two steps once `task.stop` is set. Closing the generator sets it.

        Args:
            work: What the task does.
            task: Ends when this does, and tells when it has ended.

        Raises:
            StoppedError: The task was stopped before it was done.
            InputError: The task took too long, or `work` raised this.
        """
        updates: SimpleQueue[Progress | None] = SimpleQueue()
        outcome: Future[Result] = Future()

        def run() -> None:
            try:
                outcome.set_result(self._with_model(work, updates, task.stop))
            except BaseException as error:  # raised again in the visitor's own thread
                outcome.set_exception(error)
            task.ended.set()
            updates.put(None)

        Thread(target=run, daemon=True).start()
        update: Progress | None = Progress("waiting for the model", 0, 0)
        try:
            while update is not None:
                yield update
                update = _latest(updates, update)
        finally:
            task.stop.set()
        return outcome.result()

    def _with_model(self, work: Callable[[], Result], updates: SimpleQueue[Progress | None], stop: Event) -> Result:
        """Waits until the model is free, and works."""
        while not self._model.acquire(timeout=LOOK):
            _check(stop)
        try:
            _check(stop)
            with show_progress(True, _bar(updates, stop, self.max_seconds)):
                return work()
        finally:
            self._model.release()


def _latest(updates: SimpleQueue[Progress | None], last: Progress) -> Progress | None:
    """Returns the newest update, for steps may be faster than the page. None once the task has ended."""
    update: Progress | None = last
    with suppress(Empty):
        update = updates.get(timeout=LOOK)
        while update is not None:
            update = updates.get_nowait()
    return update


def _check(stop: Event) -> None:
    if stop.is_set():
        raise StoppedError


def _bar(
    updates: SimpleQueue[Progress | None], stop: Event, max_seconds: float
) -> Callable[[Sequence[Any], str], Iterator[Any]]:
    """Returns what loops over steps show their progress with. It ends them where the task is to end."""
    deadline = time.monotonic() + max_seconds

    def bar(items: Sequence[Any], description: str) -> Iterator[Any]:
        for done, item in enumerate(items):
            updates.put(Progress(description, done, len(items)))
            _check(stop)
            if time.monotonic() > deadline:
                raise InputError(f"this took longer than {max_seconds / 60:g} minutes, so it was stopped")
            yield item
        updates.put(Progress(description, len(items), len(items)))

    return bar
