"""The tokenizers of the shipped models: CLIP's and OPT's byte-level BPE, a token for every word of the world."""

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
    """A CLIPTokenizer that spells any text: the world's words in one token each, all else byte by byte.

    The vocabulary is CLIP's layout in small: every byte, every byte at a word's end, the merges, the special tokens.
    """
    merges = _learn_merges(WORDS, pre_tokenizers.Whitespace(), END_OF_WORD)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = itertools.chain(
        alphabet, (byte + END_OF_WORD for byte in alphabet), ("".join(pair) for pair in merges), SPECIAL_TOKENS
    )
    vocabulary = {piece: position for position, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def build_caption_tokenizer(max_length: int) -> GPT2Tokenizer:
    """The tokenizer of OPT in small: as `build_tokenizer`'s, but that a word's token holds the space before it.

    OPT begins and ends a text with the same token, and fills batches up with another.
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
    """Pairs to join, in order, until each word is one piece."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=end_of_word))
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=end_of_word)
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(words, trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
