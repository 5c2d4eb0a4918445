"""The edit direction in embedding space: the mean difference of two banks of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from renoise import Conditioning, DiffusionModel

SENTENCES_PER_CALL = 64
"""How many sentences the text encoder takes at once."""

TEMPLATES = (
    "a {}",
    "the {}",
    "one {}",
    "a photo of a {}",
    "a picture of a {}",
    "a painting of a {}",
    "a close-up of a {}",
    "a photo of the {}",
    "a {} on a table",
    "a {} in a room",
    "a {} in the street",
    "a {} on the grass",
    "a {} in front of a house",
    "a {} next to a tree",
    "the {} looks at the camera",
    "there is a {} in the picture",
)
"""Sentences that fit any thing. A bank puts a word into each of them."""


@dataclass(frozen=True)
class Direction:
    """An edit direction, which is added to a prompt's embeddings.

    Args:
        embeds: [length, D].
        pooled: [P]. None where the model family has no pooled embeddings.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor | None

    @classmethod
    def between(cls, model: DiffusionModel, source: Sequence[str], target: Sequence[str]) -> Direction:
        """Returns the direction from the mean embedding of the source sentences to that of the target sentences."""
        source_embeds, source_pooled = _mean_embeddings(model, source)
        target_embeds, target_pooled = _mean_embeddings(model, target)
        if source_pooled is None or target_pooled is None:
            return cls(target_embeds - source_embeds, None)
        return cls(target_embeds - source_embeds, target_pooled - source_pooled)

    def __add__(self, other: Direction) -> Direction:
        if self.pooled is None or other.pooled is None:
            return Direction(self.embeds + other.embeds, None)
        return Direction(self.embeds + other.embeds, self.pooled + other.pooled)


def add_directions(conditioning: Conditioning, directions: Sequence[Direction]) -> Conditioning:
    """Moves each of B prompts along its direction. The unconditional branch stays as it is."""
    embeds = conditioning.prompt_embeds
    moved = replace(
        conditioning, prompt_embeds=embeds + torch.stack([direction.embeds for direction in directions]).to(embeds)
    )
    pooled = [direction.pooled for direction in directions if direction.pooled is not None]
    if conditioning.pooled_prompt_embeds is None:
        return moved
    return replace(moved, pooled_prompt_embeds=conditioning.pooled_prompt_embeds + torch.stack(pooled).to(embeds))


def read_bank(path: Path, option: str) -> list[str]:
    """Reads a bank of sentences from a text file with one sentence per line.

    Args:
        path: The file.
        option: Option that named the file, for messages.

    Raises:
        ValueError: The file does not exist, is not text, or contains no sentence.
    """
    try:
        sentences = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Pix2PixZero: {option}: {path} cannot be read as text: {error}") from error
    if not sentences:
        raise ValueError(f"Pix2PixZero: {option}: {path} is empty; it must contain one sentence per line")
    return sentences


def _mean_embeddings(model: DiffusionModel, sentences: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the mean embedding of a bank, [length, D], and the mean pooled one, [P]."""
    starts = range(0, len(sentences), SENTENCES_PER_CALL)
    parts = [model.encode_prompts(list(sentences[start : start + SENTENCES_PER_CALL])) for start in starts]
    embeds = torch.cat([part.prompt_embeds for part in parts]).mean(dim=0)
    pooled = [part.pooled_prompt_embeds for part in parts if part.pooled_prompt_embeds is not None]
    return embeds, torch.cat(pooled).mean(dim=0) if pooled else None
