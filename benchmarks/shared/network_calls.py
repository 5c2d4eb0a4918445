"""The calls that some work makes to a network: counted, or repeated alone to time everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import torch
from torch import nn

Kept = TypeVar("Kept")


@contextmanager
def network_calls(network: nn.Module, keep: Callable[[tuple[Any, ...], dict[str, Any]], Kept]) -> Iterator[list[Kept]]:
    """Records the calls of a network inside the block, in order.

    Args:
        network: The network.
        keep: Returns what to record of the positional and keyword arguments of one call.
    """
    calls: list[Kept] = []

    def record(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append(keep(positional, named))

    handle = network.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def batch_size(positional: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Returns the batch size of one call of a UNet, to count function evaluations (NFE)."""
    return len(positional[0] if positional else named["sample"])


@dataclass(frozen=True)
class Call:
    """The arguments of one call of a network, detached from the graph that they were computed in."""

    positional: tuple[Any, ...]
    named: dict[str, Any]

    @classmethod
    def of(cls, positional: tuple[Any, ...], named: dict[str, Any]) -> Call:
        """Returns a call with these arguments. Tensors that require a gradient still do."""
        return cls(_detach(positional), _detach(named))

    def repeat(self, network: nn.Module) -> None:
        """Calls the network again, and computes the gradient if an argument requires one."""
        inputs = [tensor for tensor in _tensors((self.positional, self.named)) if tensor.requires_grad]
        with torch.set_grad_enabled(bool(inputs)):
            output = network(*self.positional, **self.named)[0]
            if inputs:
                torch.autograd.grad(output.sum(), inputs)


@dataclass(frozen=True)
class Timing:
    """How long some work takes, and its network calls alone.

    Args:
        seconds: Median of the work's times.
        overhead: Median of the work's time divided by the time of its network calls alone.
    """

    seconds: float
    overhead: float


@torch.no_grad()
def timed(network: nn.Module, work: Callable[[], object], repeats: int = 5) -> Timing:
    """Times some work against its network calls alone.

    Everything else counts as overhead, such as decoding images. Repeats of both are interleaved. Calls that the work
    takes gradients of are repeated forward and backward.

    Args:
        network: The network.
        work: Calls the network.
        repeats: Number of measurements, after a first run that warms up.
    """
    with network_calls(network, Call.of) as calls:
        work()
    times = []
    for _ in range(repeats):
        started = _now()
        work()
        done = _now()
        for call in calls:
            call.repeat(network)
        times.append((done - started, _now() - done))
    return Timing(median(whole for whole, _ in times), median(whole / alone for whole, alone in times))


def overhead(network: nn.Module, work: Callable[[], object], repeats: int = 5) -> float:
    """Returns the time of some work divided by the time of its network calls alone; see `timed`."""
    return timed(network, work, repeats).overhead


def _now() -> float:
    """Returns processor time in seconds, in which other programs do not count; on a GPU time, once it has done all."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _detach(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().requires_grad_(value.requires_grad and torch.is_grad_enabled())
    if isinstance(value, Mapping):
        return {name: _detach(item) for name, item in value.items()}
    return tuple(map(_detach, value)) if isinstance(value, tuple) else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)
