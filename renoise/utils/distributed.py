"""Communication between the processes of one run. A process that runs alone gets its own value back.

Lightning's `strategy.broadcast` and `strategy.barrier` give up after half an hour, but one process may need hours more
than another. The functions here wait without a time limit, and notice at once when a process dies.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from threading import Event, Thread
from typing import Any, TypeVar

import torch.distributed as dist

from renoise.errors import InputError

Value = TypeVar("Value")

PROCESS_ENDED = "another process of this run has ended early; finished images are kept, run the same command again"
PARENT_PID = os.getppid()
NOTICE_AFTER = 600.0
"""Seconds after which a process that waits for others says for whom."""

_waits = itertools.count()
"""Numbers the waits. Every process takes part in all of them, so a number means the same in each."""


def all_gather(value: Value) -> list[Value]:
    """Returns the values of all processes, by rank. Every process must call it, and waits for all others.

    Args:
        value: This process's value; anything that can be pickled.

    Raises:
        InputError: Another process has ended.

    Example:
        >>> from renoise.utils.distributed import all_gather
        >>> all_gather("one process alone")
        ['one process alone']
    """
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    with _waiting():
        dist.all_gather_object(values, value, group=_group())
    return values


def broadcast(value: Value) -> Value:
    """Returns the value of the process of rank 0. Every process must call it.

    Args:
        value: This process's value; only that of rank 0 matters.

    Raises:
        InputError: Another process has ended.
    """
    if not _is_distributed():
        return value
    values = [value]
    with _waiting():
        dist.broadcast_object_list(values, src=0, group=_group())
    return values[0]


def barrier() -> None:
    """Waits until every process has called it.

    Raises:
        InputError: Another process has ended.
    """
    if _is_distributed():
        with _waiting():
            dist.barrier(group=_group())


@contextmanager
def raise_together() -> Iterator[None]:
    """Ends all processes where an `InputError` occurs inside the block in at least one of them.

    Every process must enter the block.

    Raises:
        InputError: In the process of rank 0. It holds the message of the first process that failed, and names that
            process.
        SystemExit: In all other processes, with status 2.
    """
    failure: InputError | None = None
    try:
        yield
    except InputError as error:
        failure = error
    if not _is_distributed():
        if failure is not None:
            raise failure
        return
    answers = all_gather(None if failure is None else (str(failure), socket.gethostname()))
    failures = {rank: answer for rank, answer in enumerate(answers) if answer is not None}
    if not failures:
        return
    if dist.get_rank() > 0:
        sys.exit(2)
    rank, (message, host) = next(iter(failures.items()))
    # Rank 0 often checks something for all, so its message stands for itself.
    raise InputError(message if rank == 0 else f"process {rank} of {len(answers)}, on {host}: {message}")


def check_parent() -> None:
    """Checks that the process that started this one still runs, so that no process goes on unattended.

    The process of rank 0 is not checked, because it may outlive its terminal.

    Raises:
        InputError: The parent process has ended.
    """
    if _is_distributed() and dist.get_rank() > 0 and os.getppid() != PARENT_PID:
        raise InputError(PROCESS_ENDED)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@cache
def _group() -> Any:
    """All processes, over gloo: it needs no device, and notices at once when a connection ends."""
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))


@contextmanager
def _waiting() -> Iterator[None]:
    """Notices a process that ends while this one waits in the block, and names those that are late."""
    number, store, over = next(_waits), dist.distributed_c10d._get_default_store(), Event()
    try:
        store.set(_key(number, dist.get_rank()), "arrived")
        Thread(target=_name_late_processes, args=(store, number, over), daemon=True).start()
        yield
    except RuntimeError as error:
        raise InputError(PROCESS_ENDED) from error
    finally:
        over.set()


def _name_late_processes(store: Any, number: int, over: Event) -> None:
    """Prints after a while which processes have not arrived at a wait, in the first process that has."""
    if over.wait(NOTICE_AFTER):
        return
    late: list[int] = [0]  # it holds the store, which does not answer while that process is stopped
    answered = Event()

    def ask() -> None:
        with suppress(RuntimeError):  # the process that holds the store has ended, which the wait itself notices
            late[:] = [rank for rank in range(dist.get_world_size()) if not store.check([_key(number, rank)])]
            answered.set()

    Thread(target=ask, daemon=True).start()
    answered.wait(NOTICE_AFTER / 20)
    arrived = [rank for rank in range(dist.get_world_size()) if rank not in late]
    if not over.is_set() and late and dist.get_rank() == arrived[0]:
        names = f"process {', '.join(map(str, late))} of {dist.get_world_size()}"
        text = f"has waited {NOTICE_AFTER / 60:g} minutes for {names}, which may have more to do or may be stopped"
        print(text, file=sys.stderr, flush=True)


def _key(number: int, rank: int) -> str:
    return f"renoise/{number}/{rank}"
