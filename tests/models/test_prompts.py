from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.models.base import DiffusionModel
from renoise.models.prompts import expand, max_tokens
from renoise.models.stable_diffusion import StableDiffusion

TOKENS = {"<toy>": 3, "<My-Toy>": 2, "<one>": 1}
"""Textual inversions, and how many vectors each has."""
PIECES = [*TOKENS, "<TOY>", "<my-toy>", "<toy>_1", "_1", "0", " ", ", ", "\n", "a", "cat", "zebra", "é", "e\u0301", "İ"]
PIECES += ["👩\u200d👩\u200d👧", "日本の猫", "<|endoftext|>", "<|startoftext|>", "<"]


@pytest.fixture(scope="module")
def inverted(model: DiffusionModel) -> StableDiffusion:
    """The model with textual inversions, loaded by diffusers into a pipeline in memory."""
    components = copy.deepcopy({name: part for name, part in model.pipeline.components.items() if part is not None})
    pipeline = StableDiffusionPipeline(
        **components, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    generator = torch.Generator().manual_seed(0)
    width = pipeline.text_encoder.get_input_embeddings().weight.shape[1]
    for token, count in TOKENS.items():
        pipeline.load_textual_inversion(torch.randn(count, width, generator=generator), token=token)
    return StableDiffusion(pipeline)


def ids_of(tokenizer: Any, prompt: str) -> list[int]:
    ids: list[int] = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    return ids


@given(st.lists(st.sampled_from(PIECES), max_size=40))
@settings(deadline=None)
def test_spans_are_those_of_the_tokens_that_the_text_encoder_gets(inverted: StableDiffusion, pieces: list[str]) -> None:
    prompt, tokenizer = "".join(pieces), inverted.pipeline.tokenizer
    kept, cut = inverted.split_prompt(prompt)
    assert kept + cut == prompt
    text, spans = expand(tokenizer, kept)
    ids = ids_of(tokenizer, text)
    assert spans == inverted.token_spans(prompt)
    assert len(ids) == len(spans) <= max_tokens(tokenizer)
    if cut:
        assert len(expand(tokenizer, prompt)[1]) > max_tokens(tokenizer), "nothing is cut that fits"
    single = {tokenizer.convert_tokens_to_ids(f"{name}_{i}" if i else name) for name in TOKENS for i in range(3)}
    for index, (begin, end) in zip(ids, spans, strict=True):
        assert 0 <= begin <= end <= len(kept)
        if index not in single:
            assert index in ids_of(tokenizer, kept), "other words keep their tokens"


@pytest.mark.parametrize(
    ("prompt", "expected", "characters"),
    [
        ("a <toy> on", "a <toy> <toy>_1 <toy>_2 on", ["a", "<toy>", "<toy>", "<toy>", "on"]),
        ("A <TOY>", "A <toy> <toy>_1 <toy>_2", ["A", "<TOY>", "<TOY>", "<TOY>"]),
        ("a <My-Toy>, <one>", "a <My-Toy> <My-Toy>_1 , <one>", ["a", "<My-Toy>", "<My-Toy>", ",", "<one>"]),
        ("<toy><toy>", "<toy> <toy>_1 <toy>_2 <toy> <toy>_1 <toy>_2", ["<toy>"] * 6),
        ("", "", []),
    ],
)
def test_a_textual_inversion_is_written_out_as_its_vectors(
    inverted: StableDiffusion, prompt: str, expected: str, characters: list[str]
) -> None:
    text, spans = expand(inverted.pipeline.tokenizer, prompt)
    assert text.split() == expected.split()
    assert [prompt[begin:end] for begin, end in spans] == characters
    found = inverted.pipeline.tokenizer.convert_ids_to_tokens(ids_of(inverted.pipeline.tokenizer, text))
    assert [token.removesuffix("</w>").lower() for token in found] == expected.lower().split()


@pytest.mark.parametrize("words", [28, 29, 30])
def test_a_textual_inversion_that_does_not_fit_is_cut_off_as_a_whole(inverted: StableDiffusion, words: int) -> None:
    prompt = "cat " * (words - 1) + "<toy> dog"
    kept, cut = inverted.split_prompt(prompt)
    assert max_tokens(inverted.pipeline.tokenizer) == 30
    assert cut == ("dog" if words == 28 else "<toy> dog")
    assert len(inverted.token_spans(prompt)) == (30 if words == 28 else words - 1)
    assert kept + cut == prompt


def test_a_prompt_of_exactly_the_greatest_length_is_kept_and_one_token_more_is_cut(inverted: StableDiffusion) -> None:
    longest = " ".join(["cat"] * 30)
    assert inverted.split_prompt(longest) == (longest, "")
    assert inverted.split_prompt(f"{longest} dog") == (f"{longest} ", "dog")
    assert inverted.split_prompt("") == ("", "")


def test_a_character_of_several_tokens_is_not_cut_in_two(inverted: StableDiffusion) -> None:
    emoji = "👩"
    pieces = len(inverted.token_spans(emoji))
    assert pieces > 1, "the tokenizer has a token for it"
    prompt = " ".join(["cat"] * (30 - pieces + 1)) + f" {emoji}"
    assert inverted.split_prompt(prompt)[1] == emoji


@torch.no_grad()
def test_embeddings_are_diffusers_own_where_diffusers_expands_correctly(inverted: StableDiffusion) -> None:
    prompts = ["a <toy> on a red cat", "a <one>, <toy>", "a cat"]
    found = inverted.encode_prompts(prompts, 2.0, negative_prompts=["a <toy>", "", "dog"])
    expected, negative = inverted.pipeline.encode_prompt(
        prompts, inverted.device, 1, True, negative_prompt=["a <toy>", "", "dog"]
    )
    torch.testing.assert_close(found.prompt_embeds, expected)
    torch.testing.assert_close(found.negative_prompt_embeds, negative)


@torch.no_grad()
def test_a_token_with_capital_letters_has_all_of_its_vectors(inverted: StableDiffusion) -> None:
    tokenizer = inverted.pipeline.tokenizer
    vectors = tokenizer.convert_tokens_to_ids(["<My-Toy>", "<My-Toy>_1"])
    ids = torch.full((1, 32), tokenizer.pad_token_id)
    ids[0, :5] = torch.tensor([tokenizer.bos_token_id, *ids_of(tokenizer, "a"), *vectors, tokenizer.eos_token_id])
    found = inverted.encode_prompts(["a <My-Toy>"]).prompt_embeds
    torch.testing.assert_close(found, inverted.text_encoder(ids)[0])
