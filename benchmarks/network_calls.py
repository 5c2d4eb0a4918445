"""What some work asks of a network, seen from outside, and what it costs beyond that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

Kept = TypeVar("Kept")


@contextmanager
def network_calls(network: nn.Module, keep: Callable[[tuple[Any, ...], dict[str, Any]], Kept]) -> Iterator[list[Kept]]:
    """The calls of a network while the context lasts, in order.

    Args:
        network: called by whoever.
        keep: what to keep of the arguments of one call, positional and by name.
    """
    calls: list[Kept] = []

    def note(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append(keep(positional, named))

    handle = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def rows(positional: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Rows of the batch that a UNet is given in one call."""
    return len(positional[0] if positional else named["sample"])


@dataclass(frozen=True)
class Call:
    """One call of a network, to be made again; what it is given is kept, what that was computed from is not."""

    positional: tuple[Any, ...]
    named: dict[str, Any]

    @classmethod
    def of(cls, positional: tuple[Any, ...], named: dict[str, Any]) -> Call:
        """Of the arguments as they are now; those that a gradient is to be taken by ask for one again."""
        return cls(_cut(positional), _cut(named))

    def repeat(self, network: nn.Module) -> None:
        """Calls the network as it was called, and back where it ran for a gradient."""
        wanted = [tensor for tensor in _tensors((self.positional, self.named)) if tensor.requires_grad]
        with torch.set_grad_enabled(bool(wanted)):
            output = network(*self.positional, **self.named)[0]
            if wanted:
                torch.autograd.grad(output.sum(), wanted)


@torch.no_grad()
def overhead(network: nn.Module, work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of some work over those of its network calls made bare: the median of interleaved repeats.

    Everything but the network counts as overhead, so decoding images does too. Where the work takes gradients, each
    of those calls is repeated forwards and all the way back.
    """
    with network_calls(network, Call.of) as calls:  # warms up as well
        work()
    ratios = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        done = time.perf_counter()
        for call in calls:
            call.repeat(network)
        ratios.append((done - started) / (time.perf_counter() - done))
    return sorted(ratios)[repeats // 2]


def _cut(value: Any) -> Any:
    """The same value off the graph that its tensors hang on."""
    if isinstance(value, torch.Tensor):
        return value.detach().requires_grad_(value.requires_grad and torch.is_grad_enabled())
    if isinstance(value, Mapping):
        return {name: _cut(each) for name, each in value.items()}
    return tuple(map(_cut, value)) if isinstance(value, tuple) else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each)
