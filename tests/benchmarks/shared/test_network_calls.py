from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.shared.network_calls import Call, batch_size, network_calls, overhead


def work_for(seconds: float) -> None:
    """Takes processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


class Network(nn.Module):
    """Multiplies by an embedding. Records the embeddings and whether gradients were enabled."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients: list[bool] = []
        self.embeddings: list[torch.Tensor] = []

    def forward(self, sample: torch.Tensor, conditioning: dict[str, Any], seconds: float = 0.0) -> tuple[torch.Tensor]:
        self.gradients.append(torch.is_grad_enabled())
        self.embeddings.append(conditioning["embedding"])
        work_for(seconds)
        return (sample * conditioning["embedding"],)


@pytest.fixture
def network() -> Network:
    return Network()


def test_calls_inside_the_block_are_counted_however_their_arguments_are_passed(network: Network) -> None:
    conditioning = {"embedding": torch.ones(1)}
    with network_calls(network, batch_size) as calls:
        network(torch.zeros(3, 4), conditioning)
        network(sample=torch.zeros(5, 4), conditioning=conditioning)
    network(torch.zeros(7, 4), conditioning)
    assert calls == [3, 5]


def test_the_hook_is_removed_after_an_error(network: Network) -> None:
    with pytest.raises(KeyError), network_calls(network, batch_size):
        network(torch.zeros(3, 4), {})
    assert not network._forward_pre_hooks


def test_a_call_is_repeated_with_its_gradient_but_without_its_graph(network: Network) -> None:
    embedding = torch.ones(4, requires_grad=True)
    with network_calls(network, Call.of) as calls:
        network(torch.zeros(3, 4), conditioning={"embedding": 2 * embedding})
        with torch.no_grad():
            network(torch.zeros(3, 4), conditioning={"embedding": embedding})
    for call in calls:
        call.repeat(network)
    assert network.gradients == [True, False, True, False]
    again = network.embeddings[2]
    assert again.is_leaf
    assert again.tolist() == [2.0] * 4
    assert embedding.grad is None, "repeated calls do not accumulate gradients"


def test_the_overhead_is_the_time_besides_the_network_calls(network: Network) -> None:
    def work() -> None:
        network(torch.zeros(1), conditioning={"embedding": torch.ones(1)}, seconds=0.02)
        network(torch.zeros(1), conditioning={"embedding": torch.ones(1)}, seconds=0.02)
        work_for(0.04)

    assert overhead(network, work, repeats=3) == pytest.approx(2, rel=0.3)
    assert len(network.gradients) == 2 + 3 * (2 + 2)
