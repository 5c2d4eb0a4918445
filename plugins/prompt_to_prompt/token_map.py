"""How the tokens of an image's prompt stand for those of its new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from renoise.models.base import DiffusionModel

from ..word_alignment import Passage, alignment, words

Mode = Literal["swap", "refine"]


class TokenMap(NamedTuple):
    """Of B pairs of prompts with L tokens each; of one pair, without the first axis."""

    source_to_new: torch.Tensor
    """What of a source token's attention each new token takes, [B, L, L]."""
    share: torch.Tensor
    """1 where a new token's attention comes from there, 0 where it stays its own, [B, L]."""
    weights: torch.Tensor
    """What its attention is multiplied by, [B, L]."""
    source_changed: torch.Tensor
    """1 at the source's tokens that gave way, [B, L]."""
    new_changed: torch.Tensor
    """1 at the new prompt's tokens that are new, or weigh more or less, [B, L]."""


def passages(mode: Mode, source: str, new: str) -> list[Passage]:
    """Which words stand for which: in a swap the first for the first and so on, in a refinement as the prompts align.

    A swap's prompts must have as many words.
    """
    if mode == "refine":
        return alignment(source, new)
    pairs = enumerate(zip(words(source), words(new), strict=True))
    return [
        Passage(range(place, place + 1), range(place, place + 1), old.text.lower() == young.text.lower())
        for place, (old, young) in pairs
    ]


def map_tokens(
    model: DiffusionModel,
    mode: Mode,
    reweight: Mapping[str, float],
    sources: Sequence[str],
    news: Sequence[str],
    length: int,
) -> TokenMap:
    """The maps of B pairs of prompts.

    Args:
        model: whose tokenizer counts.
        mode: a swap's new words attend to where the old ones did, a refinement's by themselves.
        reweight: factors by word of the new prompts, in lower case.
        sources: the images' own prompts.
        news: the new ones.
        length: L, of the network's embeddings.
    """
    maps = [_one(model, mode, reweight, *pair, length) for pair in zip(sources, news, strict=True)]
    return TokenMap(*(torch.stack(each).to(model.device) for each in zip(*maps, strict=True)))


def _one(
    model: DiffusionModel, mode: Mode, reweight: Mapping[str, float], source: str, new: str, length: int
) -> TokenMap:
    """The map of one pair."""
    old, old_end = _tokens_of_words(model, source)
    young, young_end = _tokens_of_words(model, new)
    found = TokenMap(torch.zeros(length, length), *(torch.zeros(length) for _ in range(4)))
    found.weights.fill_(1)

    def take_over(old_tokens: Sequence[int], new_tokens: Sequence[int]) -> None:
        """Token by token where there are as many, else each new one a share of all that the old ones had."""
        if len(old_tokens) == len(new_tokens):
            found.source_to_new[old_tokens, new_tokens] = 1
        else:
            found.source_to_new[torch.tensor(old_tokens)[:, None], new_tokens] = 1 / len(new_tokens)
        found.share[new_tokens] = 1

    take_over([0], [0])  # the token that prompts begin with
    tail = min(length - old_end, length - young_end)  # the one that they end with, and the padding
    take_over(range(old_end, old_end + tail), range(young_end, young_end + tail))
    for passage in passages(mode, source, new):
        old_tokens = [token for word in passage.source for token in old[word]]
        new_tokens = [token for word in passage.target for token in young[word]]
        if passage.same:
            for here, there in zip(passage.source, passage.target, strict=True):
                common = min(len(old[here]), len(young[there]))  # one prompt may be cut off where the other goes on
                take_over(old[here][:common], young[there][:common])
            continue
        if old_tokens and new_tokens and mode == "swap":
            take_over(old_tokens, new_tokens)
        found.source_changed[old_tokens] = 1
        found.new_changed[new_tokens] = 1
    for word, tokens in zip(words(new), young, strict=True):
        if word.text.lower() in reweight:
            found.weights[tokens] = reweight[word.text.lower()]
            found.new_changed[tokens] = 1
    return found


def _tokens_of_words(model: DiffusionModel, prompt: str) -> tuple[list[list[int]], int]:
    """The tokens of every word, none of those cut off, and the position of the one that ends the prompt."""
    spans = model.token_spans(prompt)
    of_words = [
        [1 + token for token, (begin, _) in enumerate(spans) if word.begin <= begin < word.end]
        for word in words(prompt)
    ]
    return of_words, 1 + len(spans)
