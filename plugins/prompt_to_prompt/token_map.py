"""Maps the tokens of an image's prompt to the tokens of its edit prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from renoise import DiffusionModel

from ..word_alignment import AlignedWords, align, split_words

Mode = Literal["swap", "refine"]


class TokenMap(NamedTuple):
    """Token maps of B pairs of prompts with L tokens each. The map of a single pair lacks the first axis."""

    mapper: torch.Tensor
    """Share of a source token's attention that each target token takes, [B, L source, L target]."""
    mapped: torch.Tensor
    """1 where a target token takes its attention from the source, 0 where it keeps its own, [B, L]."""
    weights: torch.Tensor
    """Factor of each target token's attention, [B, L]."""
    source_changed: torch.Tensor
    """1 at the source tokens that are replaced, [B, L]."""
    target_changed: torch.Tensor
    """1 at the target tokens that are new or have a weight, [B, L]."""

    @classmethod
    def empty(cls, length: int) -> TokenMap:
        """Returns the map of a pair of L tokens each, in which every target token keeps its own attention."""
        return cls(
            mapper=torch.zeros(length, length),
            mapped=torch.zeros(length),
            weights=torch.ones(length),
            source_changed=torch.zeros(length),
            target_changed=torch.zeros(length),
        )

    def map(self, source_tokens: Sequence[int], target_tokens: Sequence[int]) -> None:
        """Lets target tokens take their attention from source tokens, in the map of a single pair.

        As many tokens map one to one. Otherwise each target token takes an equal share of all source tokens.
        """
        if len(source_tokens) == len(target_tokens):
            self.mapper[source_tokens, target_tokens] = 1
        else:
            self.mapper[torch.tensor(source_tokens)[:, None], target_tokens] = 1 / len(target_tokens)
        self.mapped[target_tokens] = 1


def map_tokens(
    model: DiffusionModel,
    mode: Mode,
    reweight: Mapping[str, float],
    sources: Sequence[str],
    targets: Sequence[str],
    length: int,
) -> TokenMap:
    """Returns the token maps of B pairs of prompts.

    Args:
        model: The model whose tokenizer splits the prompts.
        mode: In a `swap` the new words take the attention of the words that they replace. In `refine` they keep their
            own.
        reweight: Factors of words of the edit prompts, in lower case.
        sources: The images' own prompts.
        targets: The edit prompts. In a `swap` they have as many words as the images' own.
        length: L, the length of the prompt embeddings.
    """
    maps = [
        _map_pair(model, mode, reweight, source, target, length)
        for source, target in zip(sources, targets, strict=True)
    ]
    return TokenMap(*(torch.stack(tensors).to(model.device) for tensors in zip(*maps, strict=True)))


def _map_pair(
    model: DiffusionModel, mode: Mode, reweight: Mapping[str, float], source: str, target: str, length: int
) -> TokenMap:
    source_words, source_end = _tokens_of_words(model, source)
    target_words, target_end = _tokens_of_words(model, target)
    tokens = TokenMap.empty(length)
    tokens.map([0], [0])  # the start token
    rest = min(length - source_end, length - target_end)  # the end token and the padding
    tokens.map(range(source_end, source_end + rest), range(target_end, target_end + rest))
    for aligned in _align(mode, source, target):
        if aligned.equal:
            for source_position, target_position in zip(aligned.source, aligned.target, strict=True):
                # The text encoder may cut off a word in one prompt only.
                kept = min(len(source_words[source_position]), len(target_words[target_position]))
                tokens.map(source_words[source_position][:kept], target_words[target_position][:kept])
            continue
        source_tokens = [token for position in aligned.source for token in source_words[position]]
        target_tokens = [token for position in aligned.target for token in target_words[position]]
        if source_tokens and target_tokens and mode == "swap":
            tokens.map(source_tokens, target_tokens)
        tokens.source_changed[source_tokens] = 1
        tokens.target_changed[target_tokens] = 1
    for word, word_tokens in zip(split_words(target), target_words, strict=True):
        if word.text.lower() in reweight:
            tokens.weights[word_tokens] = reweight[word.text.lower()]
            tokens.target_changed[word_tokens] = 1
    return tokens


def _align(mode: Mode, source: str, target: str) -> list[AlignedWords]:
    """Aligns two prompts: word by word in a swap, by their common passages in a refinement."""
    if mode == "refine":
        return align(source, target)
    pairs = enumerate(zip(split_words(source), split_words(target), strict=True))
    return [
        AlignedWords(range(i, i + 1), range(i, i + 1), source_word.text.lower() == target_word.text.lower())
        for i, (source_word, target_word) in pairs
    ]


def _tokens_of_words(model: DiffusionModel, prompt: str) -> tuple[list[list[int]], int]:
    """Returns the token positions of every word, and the position of the end token.

    Words that the text encoder cuts off have no tokens. Position 0 is the start token.
    """
    spans = model.token_spans(prompt)
    tokens_of_words = [
        [1 + token for token, (begin, _) in enumerate(spans) if word.begin <= begin < word.end]
        for word in split_words(prompt)
    ]
    return tokens_of_words, 1 + len(spans)
