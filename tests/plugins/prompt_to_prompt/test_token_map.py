from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from renoise_plugins.prompt_to_prompt.token_map import TokenMap, map_tokens
from renoise_plugins.word_alignment import split_words
from safetensors.torch import save_file

from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

LENGTH = 32
some_words = st.lists(st.sampled_from(["a", "cat", "Dog", "red", "on", ",", "sofa", "k9", "it's"]), max_size=8)


def map_pair(model: DiffusionModel, mode: Any, source: str, target: str, **reweight: float) -> TokenMap:
    tokens = map_tokens(model, mode, reweight, [source], [target], LENGTH)
    return TokenMap(*(field[0] for field in tokens))


def positions(mask: torch.Tensor) -> list[int]:
    found: list[int] = mask.nonzero().flatten().tolist()
    return found


def test_a_swap_of_words_with_equally_many_tokens_maps_each_token_to_its_own_position(model: DiffusionModel) -> None:
    tokens = map_pair(model, "swap", "a cat on a red background", "a dog on a red background")
    torch.testing.assert_close(tokens.mapper, torch.eye(LENGTH))
    assert tokens.mapped.eq(1).all()
    assert tokens.weights.eq(1).all()
    assert positions(tokens.source_changed) == [2]
    assert positions(tokens.target_changed) == [2]


def test_a_word_with_more_tokens_shares_the_attention_of_the_word_that_it_replaces(model: DiffusionModel) -> None:
    source, target = "a cat on a red background", "a zebra on a red background"
    pieces = len(model.token_spans("zebra"))
    assert pieces > 1, "the tokenizer has a token for zebra"
    tokens = map_pair(model, "swap", source, target)
    zebra = list(range(2, 2 + pieces))
    torch.testing.assert_close(tokens.mapper[2, zebra], torch.full((pieces,), 1 / pieces))
    assert positions(tokens.target_changed) == zebra
    end = 1 + len(model.token_spans(source))
    for token in [3, 4, 5, 6, end, end + 1]:
        assert positions(tokens.mapper[token]) == [token + pieces - 1]
    assert tokens.mapped.eq(1).all()


def test_in_a_refinement_new_words_keep_their_own_attention(model: DiffusionModel) -> None:
    tokens = map_pair(model, "refine", "a cat on a red background", "a striped cat on a red background")
    assert positions(tokens.mapped.eq(0)) == [2]
    assert tokens.mapper[:, 2].eq(0).all()
    assert positions(tokens.mapper[2]) == [3], "cat maps to cat"
    assert tokens.source_changed.eq(0).all()
    assert positions(tokens.target_changed) == [2]


def test_a_weight_applies_to_every_token_of_its_word_and_to_no_other(model: DiffusionModel) -> None:
    prompt = "a red cat on a Red background"
    tokens = map_pair(model, "swap", prompt, prompt, red=3.0)
    assert positions(tokens.weights.ne(1)) == [2, 6]
    assert tokens.weights[2] == 3
    assert positions(tokens.target_changed) == [2, 6]


@pytest.fixture(scope="module")
def with_toy(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """The model with a textual inversion of three vectors."""
    path = tmp_path_factory.mktemp("inversions") / "toy.safetensors"
    save_file({"<my-Toy>": torch.zeros(3, 96)}, path)
    return load_model(str(tiny_sd), textual_inversion=[str(path)])


def test_all_vectors_of_a_textual_inversion_are_the_tokens_of_its_word(with_toy: DiffusionModel) -> None:
    source, target = "a cat on a red background", "a <my-Toy> on a blue background"
    tokens = map_pair(with_toy, "swap", source, target, blue=2.0)
    toy = [2, 3, 4]
    torch.testing.assert_close(tokens.mapper[2, toy], torch.full((3,), 1 / 3))
    assert positions(tokens.source_changed) == [2, 5], "cat and red"
    assert positions(tokens.target_changed) == [*toy, 7], "the textual inversion and blue"
    assert positions(tokens.weights.ne(1)) == [7]
    assert [positions(tokens.mapper[token]) for token in (1, 3, 4, 6)] == [[1], [5], [6], [8]]
    back = map_pair(with_toy, "swap", target, source)
    assert positions(back.source_changed) == [*toy, 7]
    same = map_pair(with_toy, "refine", target, target.replace("blue", "big blue"))
    torch.testing.assert_close(same.mapper[:7, :7], torch.eye(7))


@settings(deadline=None)  # a busy machine takes longer
@given(some_words, some_words, st.sampled_from(["swap", "refine"]))
def test_a_source_token_gives_away_at_most_its_own_attention(
    model: DiffusionModel, source_words: list[str], target_words: list[str], mode: str
) -> None:
    source, target = " ".join(source_words), " ".join(target_words)
    if len(split_words(source)) != len(split_words(target)):
        mode = "refine"
    tokens = map_pair(model, mode, source, target)
    assert tokens.mapper.sum(dim=1).max() <= 1 + 1e-6
    assert set(tokens.mapped.tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(tokens.mapped.bool(), tokens.mapper.sum(dim=0) > 0)


def test_words_that_the_text_encoder_cuts_off_map_to_nothing(model: DiffusionModel) -> None:
    long = " ".join(["cat"] * 40)
    tokens = map_pair(model, "swap", f"{long} dog", f"{long} fox")
    torch.testing.assert_close(tokens.mapper, torch.eye(LENGTH))
    assert tokens.target_changed.eq(0).all()


def test_common_words_map_token_by_token_where_one_prompt_is_cut_off(model: DiffusionModel) -> None:
    longest = LENGTH - 2
    prompt = " ".join(["cat"] * longest)
    tokens = map_pair(model, "refine", prompt, f"striped {prompt}")
    for token in range(1, longest):
        assert positions(tokens.mapper[token]) == [token + 1]
    assert tokens.mapper[longest].eq(0).all(), "its counterpart is cut off"


def test_a_swap_of_prompts_with_different_numbers_of_words_is_an_error(model: DiffusionModel) -> None:
    with pytest.raises(ValueError, match="zip"):
        map_pair(model, "swap", "a cat", "a cat with a hat")
