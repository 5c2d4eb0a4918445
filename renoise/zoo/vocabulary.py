"""The tokenizer of the shipped models: CLIP's byte-level BPE, with one token for every word of the miniature world."""

from __future__ import annotations

import itertools
import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from renoise.zoo.scenes import COLOURS, PATTERNS, SUBJECTS

END_OF_WORD = "</w>"
SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")


def build_tokenizer(max_length: int) -> CLIPTokenizer:
    """A CLIPTokenizer that spells any text: the world's words in one token each, all else byte by byte.

    The vocabulary is CLIP's layout in small: every byte, every byte at a word's end, the merges, the special tokens.
    """
    words = ["a", "on", "background", *SUBJECTS, *COLOURS, *PATTERNS]
    merges = _learn_merges(words)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = itertools.chain(
        alphabet, (byte + END_OF_WORD for byte in alphabet), ("".join(pair) for pair in merges), SPECIAL_TOKENS
    )
    vocabulary = {piece: position for position, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def _learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Pairs to join, in order, until each word is one piece."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=END_OF_WORD)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(words, trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
