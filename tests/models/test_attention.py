from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from helpers.inversions import BoundInverter
from torch import nn

from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, EditRequest
from renoise.editing.runner import check_needs, run_editor
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.inversion.ddim import DDIM
from renoise.models.attention import AttentionControl, check_attention, controlled_attention, kept_attention
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

PROMPTS = ["a cat on a plain red background", "a dog"]
REQUESTS = [EditRequest(prompt, prompt, prompt) for prompt in PROMPTS]


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def loaded(request: pytest.FixtureRequest) -> DiffusionModel:
    source: Path = request.getfixturevalue(request.param)
    return load_model(str(source))


@pytest.fixture
def model(loaded: DiffusionModel) -> Iterator[DiffusionModel]:
    """The model with the attention processors that it was loaded with."""
    processors = loaded.network.attn_processors
    yield loaded
    loaded.network.set_attn_processor(dict(processors))


@torch.no_grad()
def predicted(model: DiffusionModel) -> torch.Tensor:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.predict(latents, 501, model.encode_prompts(PROMPTS, 3.0))


def attention_layers(model: DiffusionModel, which: str) -> list[Any]:
    return [module for name, module in model.network.named_modules() if name.endswith(f".{which}")]


class Watched(AttentionControl):
    """Keeps everything that it is shown."""

    def __init__(self) -> None:
        self.maps: list[torch.Tensor] = []
        self.queries: list[torch.Tensor] = []
        self.keys: list[torch.Tensor] = []

    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        self.maps.append(maps)
        return maps

    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.queries.append(query)
        self.keys.append(key)
        return query, key


class Calls:
    """What attention layers are given and what they make of it, in the order of their calls."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.seen: list[tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.handles = [layer.register_forward_hook(self.note, with_kwargs=True) for layer in layers]

    def note(self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor) -> None:
        context = named.get("encoder_hidden_states")
        self.seen.append((layer, inputs[0], inputs[0] if context is None else context, output))

    def end(self) -> None:
        for handle in self.handles:
            handle.remove()


# What it does


@pytest.mark.parametrize("processor", [AttnProcessor, AttnProcessor2_0])
def test_a_control_that_changes_nothing_predicts_what_diffusers_own_processors_predict(
    model: DiffusionModel, processor: type[AttnProcessor]
) -> None:
    model.network.set_attn_processor(processor())
    expected = predicted(model)
    for control in (AttentionControl(), Watched()):
        with controlled_attention(model.network, control):
            torch.testing.assert_close(predicted(model), expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_gets_the_softmax_of_every_layer_by_image_and_head(model: DiffusionModel) -> None:
    watched, calls = Watched(), Calls(layers := attention_layers(model, "attn2"))
    with controlled_attention(model.network, watched):
        predicted(model)
    calls.end()
    assert len(watched.maps) == len(calls.seen) == len(layers) > 0
    for maps, (layer, hidden, context, _) in zip(watched.maps, calls.seen, strict=True):
        assert maps.shape == (4, layer.heads, hidden.shape[1], context.shape[1])
        torch.testing.assert_close(maps.sum(dim=-1), torch.ones(maps.shape[:-1]), rtol=0, atol=1e-5)
        query, key = layer.to_q(hidden).double(), layer.to_k(context).double()
        width = query.shape[-1] // layer.heads
        for head in range(layer.heads):
            mine = slice(head * width, (head + 1) * width)
            scores = query[..., mine] @ key[..., mine].transpose(1, 2) / width**0.5
            expected = (scores.exp() / scores.exp().sum(dim=-1, keepdim=True)).float()
            torch.testing.assert_close(maps[:, head], expected, rtol=1e-4, atol=1e-5)


def test_self_attention_gets_queries_and_keys_by_image_and_head(model: DiffusionModel) -> None:
    watched, calls = Watched(), Calls(layers := attention_layers(model, "attn1"))
    with controlled_attention(model.network, watched):
        predicted(model)
    calls.end()
    assert len(watched.queries) == len(calls.seen) == len(layers) > 0
    for query, key, (layer, hidden, _, _) in zip(watched.queries, watched.keys, calls.seen, strict=True):
        for tensor, whole in ((query, layer.to_q(hidden)), (key, layer.to_k(hidden))):
            assert tensor.shape == (4, layer.heads, hidden.shape[1], whole.shape[-1] // layer.heads)
            by_head = torch.stack(whole.chunk(layer.heads, dim=-1), dim=1)
            torch.testing.assert_close(tensor, by_head)


class EvenMaps(AttentionControl):
    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.full_like(maps, 1 / maps.shape[-1])


class EvenQueries(AttentionControl):
    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros_like(query), key


class EvenKeys(AttentionControl):
    def self_attention(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return query, torch.zeros_like(key)


@pytest.mark.parametrize(("control", "which"), [(EvenMaps, "attn2"), (EvenQueries, "attn1"), (EvenKeys, "attn1")])
def test_attention_made_even_gives_every_position_the_mean_of_the_values(
    model: DiffusionModel, control: type[AttentionControl], which: str
) -> None:
    free, calls = predicted(model), Calls(attention_layers(model, which))
    with controlled_attention(model.network, control()):
        even = predicted(model)
    calls.end()
    assert calls.seen
    for layer, hidden, context, output in calls.seen:
        mean = layer.to_v(context).mean(dim=1, keepdim=True).expand(-1, hidden.shape[1], -1)
        torch.testing.assert_close(output, layer.to_out[0](mean), rtol=1e-4, atol=1e-5)
    assert float((even - free).abs().max()) > 1e-3


class FirstTokenOfTheLastImage(AttentionControl):
    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps.clone()
        maps[-1] = 0
        maps[-1, ..., 0] = 1
        return maps


def test_a_change_to_one_image_does_not_change_the_others(model: DiffusionModel) -> None:
    free = predicted(model)
    with controlled_attention(model.network, FirstTokenOfTheLastImage()):
        changed = predicted(model)
    torch.testing.assert_close(changed[0], free[0], rtol=1e-4, atol=1e-5)
    assert float((changed[1] - free[1]).abs().max()) > 1e-3


def test_gradients_reach_the_latents_through_the_maps(model: DiffusionModel) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    watched = Watched()
    with controlled_attention(model.network, watched), torch.enable_grad():
        model.predict(latents, 501, model.encode_prompts(PROMPTS[:1]))
        (gradient,) = torch.autograd.grad(sum(maps.square().sum() for maps in watched.maps), latents)
    assert gradient.isfinite().all()
    assert float(gradient.abs().max()) > 0


# What it leaves behind


def same_processors(model: DiffusionModel, before: dict[str, Any]) -> bool:
    after = model.network.attn_processors
    return after.keys() == before.keys() and all(after[name] is before[name] for name in before)


def test_every_processor_is_restored_in_its_own_layer(model: DiffusionModel) -> None:
    network = model.network
    network.set_attn_processor({name: AttnProcessor() for name in network.attn_processors})
    before = network.attn_processors
    with controlled_attention(network, AttentionControl()):
        assert not same_processors(model, before)
    assert same_processors(model, before)


def test_the_processors_are_restored_after_an_exception(model: DiffusionModel) -> None:
    before = model.network.attn_processors

    def changed_and_raised() -> None:
        model.network.set_attn_processor(SlicedAttnProcessor(1))
        raise KeyError("mine")

    for context in (controlled_attention(model.network, EvenMaps()), kept_attention(model.network)):
        with pytest.raises(KeyError, match="mine"), context:
            changed_and_raised()
        assert same_processors(model, before)


def test_the_processors_are_restored_where_the_block_set_others(model: DiffusionModel) -> None:
    before = model.network.attn_processors
    for context in (controlled_attention(model.network, EvenMaps()), kept_attention(model.network)):
        with context:
            model.network.set_attn_processor(AttnProcessor())
        assert same_processors(model, before)


def test_after_an_inner_control_the_outer_one_works_again(model: DiffusionModel) -> None:
    outer, inner = Watched(), Watched()
    with controlled_attention(model.network, outer):
        with controlled_attention(model.network, inner):
            predicted(model)
        assert not outer.maps
        predicted(model)
    assert len(outer.maps) == len(inner.maps) > 0


# What cannot be watched


class Watching(Editor):
    needs = frozenset({"attention"})

    def refusal(self, request: EditRequest) -> str | None:
        return None

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        return model.decode_latents(inversion.latents)


class Indifferent(Watching):
    needs = frozenset()


def test_an_unknown_attention_processor_is_refused_with_its_name_and_the_editors(model: DiffusionModel) -> None:
    network, schedule = model.network, Schedule.from_scheduler(model.scheduler, 2)
    check_attention(network, "Mine")
    check_needs(Watching(), model, schedule)
    first = next(iter(network.attn_processors))
    network.set_attn_processor({**network.attn_processors, first: SlicedAttnProcessor(1)})
    with pytest.raises(InputError, match=r"^Mine needs attention maps.*SlicedAttnProcessor"):
        check_attention(network, "Mine")
    with pytest.raises(InputError, match=r"^Watching needs attention maps.*SlicedAttnProcessor"):
        check_needs(Watching(), model, schedule)
    check_needs(Indifferent(), model, schedule)


# Editors


class Careless(Watching):
    """Leaves its own attention behind."""

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        model.network.set_attn_processor(SlicedAttnProcessor(1))
        return super().edit(model, inversion, requests)


class Raising(Careless):
    """Raises after that, and says for each image whether attention was as it should be."""

    def __init__(self) -> None:
        self.found: list[bool] = []

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        kinds = {type(each) for each in model.network.attn_processors.values()}
        self.found.append(SlicedAttnProcessor not in kinds)
        super().edit(model, inversion, requests)
        raise IndexError("mine")


@pytest.fixture
def inversion(model: DiffusionModel) -> Inversion:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    inverter = BoundInverter(DDIM(), model, Schedule.from_scheduler(model.scheduler, 1))
    return inverter.invert(latents, model.encode_prompts(PROMPTS), PROMPTS)


@torch.no_grad()
def test_the_processors_are_restored_after_an_editor_that_does_not_restore_them(
    model: DiffusionModel, inversion: Inversion
) -> None:
    before = model.network.attn_processors
    outcomes = run_editor(Careless(), model, inversion, REQUESTS)
    assert all(isinstance(outcome, torch.Tensor) for outcome in outcomes)
    assert same_processors(model, before)


@torch.no_grad()
def test_the_processors_are_restored_between_and_after_the_tries_of_an_editor_that_raises(
    model: DiffusionModel, inversion: Inversion
) -> None:
    before, editor = model.network.attn_processors, Raising()
    outcomes = run_editor(editor, model, inversion, REQUESTS)
    assert [str(outcome).partition(" (")[0] for outcome in outcomes] == ["IndexError: mine"] * 2
    assert editor.found == [True] * 3  # the batch, and each image alone
    assert same_processors(model, before)
