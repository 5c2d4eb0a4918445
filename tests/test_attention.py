from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from torch import nn

from renoise.attention import AttentionControl, check_attention, controlled_attention, kept_attention
from renoise.checkpoint import load_denoiser
from renoise.denoiser import Denoiser
from renoise.editing import Editor, EditRequest, check_needs, run_editor
from renoise.errors import InputError
from renoise.inversion import Inversion, Inverter
from renoise.schedule import Schedule
from renoise.solver import Renoising

PROMPTS = ["a cat on a plain red background", "a dog"]
REQUESTS = [EditRequest(prompt, prompt, prompt) for prompt in PROMPTS]


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def loaded(request: pytest.FixtureRequest) -> Denoiser:
    source: Path = request.getfixturevalue(request.param)
    return load_denoiser(str(source))


@pytest.fixture
def denoiser(loaded: Denoiser) -> Iterator[Denoiser]:
    """Whatever a test does to the attention, the next one has it as it was loaded."""
    processors = loaded.pipeline.unet.attn_processors
    yield loaded
    loaded.pipeline.unet.set_attn_processor(dict(processors))


@torch.no_grad()
def predicted(denoiser: Denoiser) -> torch.Tensor:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return denoiser.predict(latents, 501, denoiser.encode_prompts(PROMPTS, 3.0))


def attention_layers(denoiser: Denoiser, which: str) -> list[Any]:
    return [module for name, module in denoiser.pipeline.unet.named_modules() if name.endswith(f".{which}")]


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
    denoiser: Denoiser, processor: type[AttnProcessor]
) -> None:
    denoiser.pipeline.unet.set_attn_processor(processor())
    expected = predicted(denoiser)
    for control in (AttentionControl(), Watched()):
        with controlled_attention(denoiser.pipeline.unet, control):
            torch.testing.assert_close(predicted(denoiser), expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_shows_the_softmax_of_every_layer_by_row_and_head(denoiser: Denoiser) -> None:
    watched, calls = Watched(), Calls(layers := attention_layers(denoiser, "attn2"))
    with controlled_attention(denoiser.pipeline.unet, watched):
        predicted(denoiser)
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


def test_self_attention_shows_queries_and_keys_by_row_and_head(denoiser: Denoiser) -> None:
    watched, calls = Watched(), Calls(layers := attention_layers(denoiser, "attn1"))
    with controlled_attention(denoiser.pipeline.unet, watched):
        predicted(denoiser)
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
    denoiser: Denoiser, control: type[AttentionControl], which: str
) -> None:
    free, calls = predicted(denoiser), Calls(attention_layers(denoiser, which))
    with controlled_attention(denoiser.pipeline.unet, control()):
        even = predicted(denoiser)
    calls.end()
    assert calls.seen
    for layer, hidden, context, output in calls.seen:
        mean = layer.to_v(context).mean(dim=1, keepdim=True).expand(-1, hidden.shape[1], -1)
        torch.testing.assert_close(output, layer.to_out[0](mean), rtol=1e-4, atol=1e-5)
    assert float((even - free).abs().max()) > 1e-3


class FirstTokenOfTheLastRow(AttentionControl):
    def cross_attention(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps.clone()
        maps[-1] = 0
        maps[-1, ..., 0] = 1
        return maps


def test_what_is_changed_in_one_row_leaves_the_others_alone(denoiser: Denoiser) -> None:
    free = predicted(denoiser)
    with controlled_attention(denoiser.pipeline.unet, FirstTokenOfTheLastRow()):
        changed = predicted(denoiser)
    torch.testing.assert_close(changed[0], free[0], rtol=1e-4, atol=1e-5)
    assert float((changed[1] - free[1]).abs().max()) > 1e-3


def test_gradients_run_through_the_maps_to_the_latents(denoiser: Denoiser) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    watched = Watched()
    with controlled_attention(denoiser.pipeline.unet, watched), torch.enable_grad():
        denoiser.predict(latents, 501, denoiser.encode_prompts(PROMPTS[:1]))
        (gradient,) = torch.autograd.grad(sum(maps.square().sum() for maps in watched.maps), latents)
    assert gradient.isfinite().all()
    assert float(gradient.abs().max()) > 0


# What it leaves behind


def same_processors(denoiser: Denoiser, before: dict[str, Any]) -> bool:
    after = denoiser.pipeline.unet.attn_processors
    return after.keys() == before.keys() and all(after[name] is before[name] for name in before)


def test_the_processors_are_put_back_each_into_its_place(denoiser: Denoiser) -> None:
    unet = denoiser.pipeline.unet
    unet.set_attn_processor({name: AttnProcessor() for name in unet.attn_processors})
    before = unet.attn_processors
    with controlled_attention(unet, AttentionControl()):
        assert not same_processors(denoiser, before)
    assert same_processors(denoiser, before)


def test_the_processors_are_put_back_after_an_exception(denoiser: Denoiser) -> None:
    before = denoiser.pipeline.unet.attn_processors

    def changed_and_raised() -> None:
        denoiser.pipeline.unet.set_attn_processor(SlicedAttnProcessor(1))
        raise KeyError("mine")

    for context in (controlled_attention(denoiser.pipeline.unet, EvenMaps()), kept_attention(denoiser.pipeline.unet)):
        with pytest.raises(KeyError, match="mine"), context:
            changed_and_raised()
        assert same_processors(denoiser, before)


def test_the_processors_are_put_back_where_the_body_set_others(denoiser: Denoiser) -> None:
    before = denoiser.pipeline.unet.attn_processors
    for context in (controlled_attention(denoiser.pipeline.unet, EvenMaps()), kept_attention(denoiser.pipeline.unet)):
        with context:
            denoiser.pipeline.unet.set_attn_processor(AttnProcessor())
        assert same_processors(denoiser, before)


def test_one_control_inside_another_gives_way_to_it_again(denoiser: Denoiser) -> None:
    outer, inner = Watched(), Watched()
    with controlled_attention(denoiser.pipeline.unet, outer):
        with controlled_attention(denoiser.pipeline.unet, inner):
            predicted(denoiser)
        assert not outer.maps
        predicted(denoiser)
    assert len(outer.maps) == len(inner.maps) > 0


# What cannot be watched


class Watching(Editor):
    needs = frozenset({"attention"})

    def refusal(self, request: EditRequest) -> str | None:
        return None

    def edit(self, denoiser: Denoiser, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        return denoiser.decode_latents(inversion.latents)


class Indifferent(Watching):
    needs = frozenset()


def test_attention_of_another_kind_is_refused_by_the_editors_name_and_its_own(denoiser: Denoiser) -> None:
    unet, schedule = denoiser.pipeline.unet, Schedule.read(denoiser.scheduler, 2)
    check_attention(unet, "Mine")
    check_needs(Watching(), denoiser, schedule)
    unet.set_attn_processor({**unet.attn_processors, next(iter(unet.attn_processors)): SlicedAttnProcessor(1)})
    with pytest.raises(InputError, match=r"^Mine works on .*SlicedAttnProcessor"):
        check_attention(unet, "Mine")
    with pytest.raises(InputError, match=r"^Watching works on .*SlicedAttnProcessor"):
        check_needs(Watching(), denoiser, schedule)
    check_needs(Indifferent(), denoiser, schedule)


# Editors


class Careless(Watching):
    """Leaves its own attention behind."""

    def edit(self, denoiser: Denoiser, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        denoiser.pipeline.unet.set_attn_processor(SlicedAttnProcessor(1))
        return super().edit(denoiser, inversion, requests)


class Raising(Careless):
    """Raises after that, and says for each image whether attention was as it should be."""

    def __init__(self) -> None:
        self.found: list[bool] = []

    def edit(self, denoiser: Denoiser, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        kinds = {type(each) for each in denoiser.pipeline.unet.attn_processors.values()}
        self.found.append(SlicedAttnProcessor not in kinds)
        super().edit(denoiser, inversion, requests)
        raise IndexError("mine")


@pytest.fixture
def inversion(denoiser: Denoiser) -> Inversion:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    inverter = Inverter(denoiser, Schedule.read(denoiser.scheduler, 1), Renoising(0))
    return inverter.invert(latents, denoiser.encode_prompts(PROMPTS), PROMPTS)


@torch.no_grad()
def test_an_editor_that_leaves_its_attention_behind_leaves_none(denoiser: Denoiser, inversion: Inversion) -> None:
    before = denoiser.pipeline.unet.attn_processors
    outcomes = run_editor(Careless(), denoiser, inversion, REQUESTS)
    assert all(isinstance(outcome, torch.Tensor) for outcome in outcomes)
    assert same_processors(denoiser, before)


@torch.no_grad()
def test_an_editor_that_raises_leaves_no_attention_behind_between_its_tries_and_after(
    denoiser: Denoiser, inversion: Inversion
) -> None:
    before, editor = denoiser.pipeline.unet.attn_processors, Raising()
    assert run_editor(editor, denoiser, inversion, REQUESTS) == ["IndexError: mine"] * 2
    assert editor.found == [True] * 3  # the batch, and each image alone
    assert same_processors(denoiser, before)
