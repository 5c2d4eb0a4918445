"""Communication between the processes of one run. A process that runs alone gets its own value back.

Lightning's `strategy.broadcast` and `strategy.barrier` give up after half an hour, but one process may need hours more
than another. The functions here wait without a time limit, and notice at once when a process dies.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch.distributed as dist

from renoise.errors import InputError

Value = TypeVar("Value")

PROCESS_ENDED = "another process of this run has ended early; finished images are kept, run the same command again"
PARENT_PID = os.getppid()


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
    with _noticing_ended_processes():
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
    with _noticing_ended_processes():
        dist.broadcast_object_list(values, src=0, group=_group())
    return values[0]


def barrier() -> None:
    """Waits until every process has called it.

    Raises:
        InputError: Another process has ended.
    """
    if _is_distributed():
        with _noticing_ended_processes():
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
def _noticing_ended_processes() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(PROCESS_ENDED) from error
