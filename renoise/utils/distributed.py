"""What the processes of one run tell one another; a process alone has nobody to ask."""

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

Said = TypeVar("Said")

GONE = "another process of this run has ended before its time; what is finished is kept, the same command does the rest"
STARTED_BY = os.getppid()
PATIENCE = timedelta(days=30)
"""How long a process that has finished its images waits for the others. One that died is noticed at once."""


def all_gather(mine: Said) -> list[Said]:
    """What each process has to say, by rank. All must ask; each waits for all the others.

    Raises:
        InputError: another process has ended before it answered.
    """
    if not _several():
        return [mine]
    answers: list[Any] = [None] * dist.get_world_size()
    with _all_there():
        dist.all_gather_object(answers, mine, group=_group())
    return answers


def broadcast(mine: Said) -> Said:
    """What the process of rank 0 has to say; what the others give is left aside. All must ask.

    Raises:
        InputError: another process has ended before this one heard.
    """
    if not _several():
        return mine
    answer = [mine]
    with _all_there():
        dist.broadcast_object_list(answer, src=0, group=_group())
    return answer[0]


@contextmanager
def raise_together() -> Iterator[None]:
    """Wraps what may go wrong in some processes only: then all of them end, and the first one says why.

    Raises:
        InputError: in the process of rank 0, where a process raised one inside the block; it says which, and where.
        SystemExit: in the other processes then, with status 2.
    """
    problem: InputError | None = None
    try:
        yield
    except InputError as error:
        problem = error
    if not _several():
        if problem is not None:
            raise problem
        return
    found = all_gather(None if problem is None else (str(problem), socket.gethostname()))
    wrong = {rank: answer for rank, answer in enumerate(found) if answer is not None}
    if not wrong:
        return
    if dist.get_rank() > 0:
        sys.exit(2)
    rank, (message, host) = next(iter(wrong.items()))
    # What the first one finds it looks for alone, or is the first to find.
    raise InputError(message if rank == 0 else f"process {rank} of {len(found)}, on {host}: {message}")


def check_starter() -> None:
    """Raises InputError in a process that another started and that has outlived it, so as not to go on unattended.

    The first process of a run is left alone: it may outlive a terminal.
    """
    if _several() and dist.get_rank() > 0 and os.getppid() != STARTED_BY:
        raise InputError(GONE)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@cache
def _group() -> Any:
    """Every process, over gloo: it needs no device, and sees at once where a connection has ended."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(GONE) from error
