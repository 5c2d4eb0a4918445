"""Which words of one prompt stand for which words of another."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple


class Word(NamedTuple):
    """A word or a mark of punctuation, and where in its prompt it stands."""

    text: str
    begin: int
    end: int


class Passage(NamedTuple):
    """Words of the source prompt that became words of the new one, as positions; either may be none."""

    source: range
    target: range
    same: bool


def words(prompt: str) -> list[Word]:
    """The words and marks of a prompt, in order."""
    return [Word(match.group(), *match.span()) for match in re.finditer(r"\w+|[^\w\s]+", prompt)]


def alignment(source: str, target: str) -> list[Passage]:
    """Both prompts in full, passage by passage: what they share, and what gave way to what; case does not matter."""
    old, new = ([word.text.lower() for word in words(prompt)] for prompt in (source, target))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [Passage(range(i, j), range(k, m), kind == "equal") for kind, i, j, k, m in matcher.get_opcodes()]


def replaced(source: str, target: str) -> list[tuple[str, str]]:
    """What gave way to what, as the prompts have it; nothing that was only added or only left out."""
    old, new = words(source), words(target)
    return [
        (source[old[i.start].begin : old[i.stop - 1].end], target[new[j.start].begin : new[j.stop - 1].end])
        for i, j, same in alignment(source, target)
        if i and j and not same
    ]
