"""The direction of an edit in embedding space: the mean difference of two banks of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from renoise.errors import InputError
from renoise.models.base import Conditioning, DiffusionModel

SENTENCES_AT_ONCE = 64

TEMPLATES = (
    *("a {}", "the {}", "one {}", "a photo of a {}", "a picture of a {}", "a painting of a {}", "a close-up of a {}"),
    *("a photo of the {}", "a {} on a table", "a {} in a room", "a {} in the street", "a {} on the grass"),
    *("a {} in front of a house", "a {} next to a tree", "the {} looks at the camera", "there is a {} in the picture"),
)
"""Sentences that banks are built of around a word, whatever it is."""


@dataclass(frozen=True)
class Direction:
    """What is added to a prompt's embeddings."""

    embeds: torch.Tensor
    """[length, D]"""
    pooled: torch.Tensor | None
    """[P]; None where the family has no pooled embeddings."""

    @classmethod
    def between(cls, model: DiffusionModel, source: Sequence[str], target: Sequence[str]) -> Direction:
        """From the mean embedding of one bank of sentences to that of another."""
        (embeds, pooled), (source_embeds, source_pooled) = (_means(model, bank) for bank in (target, source))
        if pooled is None or source_pooled is None:
            return cls(embeds - source_embeds, None)
        return cls(embeds - source_embeds, pooled - source_pooled)

    def __add__(self, other: Direction) -> Direction:
        """One direction after the other."""
        if self.pooled is None or other.pooled is None:
            return Direction(self.embeds + other.embeds, None)
        return Direction(self.embeds + other.embeds, self.pooled + other.pooled)


def moved(conditioning: Conditioning, directions: Sequence[Direction]) -> Conditioning:
    """The conditioning of B prompts, each moved along its direction; the unconditional branch stays."""
    embeds = conditioning.prompt_embeds
    told = replace(conditioning, prompt_embeds=embeds + torch.stack([each.embeds for each in directions]).to(embeds))
    pooled = [each.pooled for each in directions if each.pooled is not None]
    if conditioning.pooled_prompt_embeds is None:
        return told
    return replace(told, pooled_prompt_embeds=conditioning.pooled_prompt_embeds + torch.stack(pooled).to(embeds))


def read_bank(path: Path, option: str) -> list[str]:
    """The sentences of a text file, one a line.

    Raises:
        InputError: no such file, none that is text, or no sentence in it.
    """
    try:
        sentences = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Pix2PixZero: {option}: {path} cannot be read as text: {error}") from error
    if not sentences:
        raise InputError(f"Pix2PixZero: {option}: {path} is empty; it must hold a sentence a line")
    return sentences


def _means(model: DiffusionModel, sentences: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mean embeddings of a bank: [length, D], and the pooled ones [P]."""
    starts = range(0, len(sentences), SENTENCES_AT_ONCE)
    parts = [model.encode_prompts(list(sentences[start : start + SENTENCES_AT_ONCE])) for start in starts]
    pooled = [part.pooled_prompt_embeds for part in parts if part.pooled_prompt_embeds is not None]
    embeds = torch.cat([part.prompt_embeds for part in parts]).mean(dim=0)
    return embeds, torch.cat(pooled).mean(dim=0) if pooled else None
