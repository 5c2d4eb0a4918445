"""The tokens of a prompt: writes textual inversions out, and cuts what the text encoder does not take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase


def expand(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[str, list[tuple[int, int]]]:
    """Writes every textual inversion of several vectors as the tokens of its vectors: `<cat>` as `<cat> <cat>_1`.

    diffusers' `maybe_convert_prompt` does so by `str.replace`. It misses tokens with capital letters, and changes words
    that contain a token's name.

    Args:
        tokenizer: A fast tokenizer. diffusers adds the tokens `name`, `name_1`, `name_2`, … for a textual inversion.
        prompt: The prompt.

    Returns:
        The text that has exactly one token for each vector, and, for each of its tokens, the first character and the
        one after the last in `prompt`. The tokens of one textual inversion have the same characters.

    Example:
        >>> import renoise
        >>> from renoise.models.prompts import expand
        >>> tokenizer = renoise.load("data/models/tiny-sd").model.pipeline.tokenizer
        >>> expand(tokenizer, "a red cat")
        ('a red cat', [(0, 1), (2, 5), (6, 9)])
    """
    tokenized = tokenizer(prompt, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    ids: dict[str, int] = tokenizer.added_tokens_encoder
    names = {index: name for name, index in ids.items() if f"{name}_1" in ids}
    parts = []
    spans: list[tuple[int, int]] = []
    written = 0
    for index, (begin, end) in zip(tokenized.input_ids, tokenized.offset_mapping, strict=True):
        vectors = _vectors(ids, names[index]) if index in names else [""]
        spans += [(int(begin), int(end))] * len(vectors)
        if index in names:
            parts += [prompt[written:begin], *vectors]
            written = end
    return " ".join([*parts, prompt[written:]]) if parts else prompt, spans


def split(tokenizers: Iterable[PreTrainedTokenizerBase], prompt: str, length: int | None = None) -> tuple[str, str]:
    """Returns the part of a prompt that fits into the greatest length of all tokenizers, and the rest.

    No character and no textual inversion is cut in two.

    Args:
        tokenizers: Fast tokenizers.
        prompt: The prompt.
        length: Longest prompt in tokens, special tokens included. None is each tokenizer's own.
    """
    end = len(prompt)
    while True:
        cuts = []
        for tokenizer in tokenizers:
            spans = expand(tokenizer, prompt[:end])[1]
            longest = max_tokens(tokenizer, length)
            if len(spans) > longest:
                cuts.append(spans[longest][0])
        if not cuts:
            return prompt[:end], prompt[end:]
        end = min(*cuts, end - 1)  # checked again: a part of a word can take more tokens than it did


def max_tokens(tokenizer: PreTrainedTokenizerBase, length: int | None = None) -> int:
    """Returns how many tokens a prompt may have without special tokens, with them `length` or the tokenizer's own."""
    return int((length or tokenizer.model_max_length) - tokenizer.num_special_tokens_to_add())


class WithoutExpansion:
    """A pipeline whose `encode_prompt` takes prompts as they are: for diffusers it has no textual inversions.

    Args:
        pipeline: Has every other attribute.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def encode_prompt(self, *arguments: Any, **options: Any) -> Any:
        """Calls the method of the pipeline's class."""
        return type(self._pipeline).encode_prompt(self, *arguments, **options)


def _vectors(ids: dict[str, int], name: str) -> list[str]:
    """Returns the tokens of a textual inversion's vectors."""
    vectors = [name]
    while f"{name}_{len(vectors)}" in ids:
        vectors.append(f"{name}_{len(vectors)}")
    return vectors
