from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from renoise_plugins.word_alignment import align, split_words, substitutions

some_words = st.lists(st.sampled_from(["a", "cat", "Dog", "red", "on", ",", "sofa", "k9", "it's"]), max_size=8)


@given(some_words, some_words)
def test_an_alignment_covers_both_prompts_once_and_in_order(source_words: list[str], target_words: list[str]) -> None:
    source, target = " ".join(source_words), " ".join(target_words)
    aligned = align(source, target)
    assert [position for each in aligned for position in each.source] == list(range(len(split_words(source))))
    assert [position for each in aligned for position in each.target] == list(range(len(split_words(target))))
    for each in aligned:
        from_source = [split_words(source)[position].text.lower() for position in each.source]
        from_target = [split_words(target)[position].text.lower() for position in each.target]
        assert (from_source == from_target) == each.equal


def test_substitutions_are_spelled_as_in_the_prompts() -> None:
    assert substitutions("a Cat on a sofa, red", "a big dog on a sofa, Red") == [("Cat", "big dog")]
    assert substitutions("a red cat on grass", "a blue cat on snow") == [("red", "blue"), ("grass", "snow")]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a <my-cat>, (<b>) on", ["a", "<my-cat>", ",", "(", "<b>", ")", "on"]),
        ("<a><b>x", ["<a>", "<b>", "x"]),
        ("1 < 2, a <b c> <", ["1", "<", "2", ",", "a", "<", "b", "c", ">", "<"]),
        ("it's k9...", ["it", "'", "s", "k9", "..."]),
    ],
)
def test_the_token_of_a_textual_inversion_is_one_word(prompt: str, words: list[str]) -> None:
    assert [word.text for word in split_words(prompt)] == words
    assert all(prompt[word.begin : word.end] == word.text for word in split_words(prompt))


def test_words_that_are_only_added_or_removed_are_no_substitutions() -> None:
    assert substitutions("a cat", "a cat with a hat") == []
    assert substitutions("a red cat", "a cat") == []
