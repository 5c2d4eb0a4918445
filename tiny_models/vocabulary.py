"""The tokenizers of the shipped models: byte-level BPE with one token for every word of the world."""

from __future__ import annotations

import itertools
import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, GPT2Tokenizer

from tiny_models.scenes import COLORS, PATTERNS, SUBJECTS

END_OF_WORD = "</w>"
SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")
WORDS = ["a", "on", "background", *SUBJECTS, *COLORS, *PATTERNS]


def build_tokenizer(max_length: int) -> CLIPTokenizer:
    """Returns a CLIPTokenizer for any text: one token for each word of the world, other words byte by byte.

    The vocabulary has CLIP's layout: every byte, every byte at the end of a word, the merges, the special tokens.

    Args:
        max_length: Longest prompt in tokens, start and end included.
    """
    merges = _learn_merges(WORDS, pre_tokenizers.Whitespace(), END_OF_WORD)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = itertools.chain(
        alphabet, (byte + END_OF_WORD for byte in alphabet), ("".join(pair) for pair in merges), SPECIAL_TOKENS
    )
    vocabulary = {piece: position for position, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def build_caption_tokenizer(max_length: int) -> GPT2Tokenizer:
    """Returns OPT's kind of tokenizer. Unlike in `build_tokenizer`, a word's token includes the space before it.

    A text begins and ends with the same token. Padding has a token of its own.

    Args:
        max_length: Longest text in tokens.
    """
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    merges = _learn_merges(["a", *(f" {word}" for word in WORDS)], byte_level)
    pieces = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {piece: position for position, piece in enumerate(pieces)}
    return GPT2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        model_max_length=max_length,
    )


def _learn_merges(
    words: list[str], splitter: pre_tokenizers.PreTokenizer, end_of_word: str = ""
) -> list[tuple[str, str]]:
    """Returns the pairs to merge, in order, until each word is one token."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=end_of_word))
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=end_of_word)
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(words, trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
