from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.network_calls import Call, network_calls, overhead, rows


class Network(nn.Module):
    """Multiplies by an embedding, and remembers whether it was asked to under gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: list[bool] = []
        self.embeddings: list[torch.Tensor] = []

    def forward(self, sample: torch.Tensor, told: dict[str, Any], seconds: float = 0.0) -> tuple[torch.Tensor]:
        self.graphs.append(torch.is_grad_enabled())
        self.embeddings.append(told["embedding"])
        time.sleep(seconds)
        return (sample * told["embedding"],)


@pytest.fixture
def network() -> Network:
    return Network()


def test_rows_are_counted_while_the_context_lasts_however_they_are_passed(network: Network) -> None:
    told = {"embedding": torch.ones(1)}
    with network_calls(network, rows) as calls:
        network(torch.zeros(3, 4), told)
        network(sample=torch.zeros(5, 4), told=told)
    network(torch.zeros(7, 4), told)
    assert calls == [3, 5]


def test_the_hook_goes_whatever_happens(network: Network) -> None:
    with pytest.raises(KeyError), network_calls(network, rows):
        network(torch.zeros(3, 4), {})
    assert not network._forward_pre_hooks


def test_a_call_is_repeated_as_it_was_with_its_gradient_and_without_its_graph(network: Network) -> None:
    embedding = torch.ones(4, requires_grad=True)
    with network_calls(network, Call.of) as calls:
        network(torch.zeros(3, 4), told={"embedding": 2 * embedding})
        with torch.no_grad():
            network(torch.zeros(3, 4), told={"embedding": embedding})
    for call in calls:
        call.repeat(network)
    assert network.graphs == [True, False, True, False]
    again = network.embeddings[2]
    assert again.is_leaf
    assert again.tolist() == [2.0] * 4
    assert embedding.grad is None, "gradients of repeated calls are nobody's"


def test_the_overhead_is_what_work_does_beside_its_calls(network: Network) -> None:
    def work() -> None:
        network(torch.zeros(1), told={"embedding": torch.ones(1)}, seconds=0.02)
        network(torch.zeros(1), told={"embedding": torch.ones(1)}, seconds=0.02)
        time.sleep(0.04)

    assert overhead(network, work, repeats=3) == pytest.approx(2, rel=0.3)
    assert len(network.graphs) == 2 + 3 * (2 + 2)
