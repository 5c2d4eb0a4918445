"""Aligns the words of two prompts."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple


class Word(NamedTuple):
    """A word as of `split_words`: its text, its first character in the prompt, and the one after its last."""

    text: str
    begin: int
    end: int


class AlignedWords(NamedTuple):
    """Consecutive words of the source prompt and those of the target prompt in their place. Either may be empty."""

    source: range
    """Positions of the words in the source prompt."""
    target: range
    """Positions of the words in the target prompt."""
    equal: bool
    """Whether both are the same words, ignoring case."""


def split_words(prompt: str) -> list[Word]:
    """Splits a prompt into words and punctuation marks. The token of a textual inversion, `<my-cat>`, is one word."""
    return [Word(match.group(), *match.span()) for match in re.finditer(r"<[^<>\s]+>|\w+|[^\w\s<]+|<", prompt)]


def align(source: str, target: str) -> list[AlignedWords]:
    """Aligns two prompts by their longest common passages, ignoring case. The result covers both prompts in order."""
    source_words = [word.text.lower() for word in split_words(source)]
    target_words = [word.text.lower() for word in split_words(target)]
    matcher = difflib.SequenceMatcher(None, source_words, target_words, autojunk=False)
    return [
        AlignedWords(range(source_begin, source_end), range(target_begin, target_end), kind == "equal")
        for kind, source_begin, source_end, target_begin, target_end in matcher.get_opcodes()
    ]


def substitutions(source: str, target: str) -> list[tuple[str, str]]:
    """Returns the words of the source that the target replaces with others, as (source, target).

    Words that are only added or only removed are left out.
    """
    return [
        (_text(source, aligned.source), _text(target, aligned.target))
        for aligned in align(source, target)
        if aligned.source and aligned.target and not aligned.equal
    ]


def _text(prompt: str, positions: range) -> str:
    """Returns the part of a prompt from the first to the last of some consecutive words."""
    words = split_words(prompt)
    return prompt[words[positions[0]].begin : words[positions[-1]].end]
