from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from tiny_models.samples import photograph_samples, scene_samples
from tiny_models.scenes import COLORS, PATTERNS, SUBJECTS, random_scenes
from tiny_models.vocabulary import SPECIAL_TOKENS, build_tokenizer

TOKENIZER = build_tokenizer(32)
START, END = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id
KEPT_CHARACTERS = "".join(chr(code) for code in range(32, 127))
"""Characters that CLIP's normalization keeps, except for their case and the spaces around them."""


@pytest.mark.parametrize("word", ["a", "on", "background", *SUBJECTS, *COLORS, *PATTERNS])
def test_every_word_of_the_world_is_one_token(word: str) -> None:
    assert len(TOKENIZER(word).input_ids) == 3
    assert TOKENIZER.decode(TOKENIZER(word).input_ids, skip_special_tokens=True) == word


def test_a_caption_has_one_token_per_word() -> None:
    for scene in random_scenes(16, seed=3):
        tokens = TOKENIZER(scene.caption).input_ids
        assert len(tokens) == 2 + len(scene.caption.split())
        assert TOKENIZER.decode(tokens, skip_special_tokens=True) == scene.caption


def test_the_samples_prompts_are_not_longer_than_the_tokenizer_allows() -> None:
    for row, _ in (*scene_samples(), *photograph_samples()):
        assert all(len(tokens) <= 32 for tokens in TOKENIZER([row["text"], row["edit_text"]]).input_ids)


@given(st.text())
def test_any_text_has_tokens_other_than_the_unknown_one(text: str) -> None:
    assume(not any(token in text for token in SPECIAL_TOKENS))
    tokens = TOKENIZER(text, add_special_tokens=False).input_ids
    assert not {START, END} & set(tokens)  # CLIP's unknown token is its end token
    assert all(0 <= token < len(TOKENIZER) for token in tokens)


@given(st.text(alphabet=st.sampled_from(KEPT_CHARACTERS)))
def test_decoding_returns_the_text(text: str) -> None:
    decoded = TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False).input_ids)
    assert "".join(decoded.split()) == "".join(text.lower().split())


def test_prompts_are_padded_and_truncated_to_the_maximum_length() -> None:
    tokens = TOKENIZER(["", "a cat " * 40], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert tokens.shape == (2, 32)
    assert tokens[:, [0, -1]].tolist() == [[START, END], [START, END]]


def test_a_saved_tokenizer_gives_the_same_tokens(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    prompt = "a fox on a dotted pink background, naïve 🦊"
    read = CLIPTokenizer.from_pretrained(tmp_path)
    assert read(prompt).input_ids == TOKENIZER(prompt).input_ids
    assert read.model_max_length == 32
