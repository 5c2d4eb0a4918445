"""Loads textual inversions: vectors that a prompt names by a token of their own (Gal et al., arXiv 2208.01618)."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import AddedToken

from renoise.errors import InputWarning, prefixed
from renoise.models.prompts import max_tokens
from renoise.models.weight_files import WeightFile, read_weights

DEFAULT_FILE = "learned_embeds.safetensors"
"""The file that is read from a folder or hub repository."""
SUFFIXES = {"": "clip_l", "_2": "clip_g"}
"""What the names of a pipeline's tokenizers and text encoders end with, and the key of each in a file for SDXL."""
UNNAMED = "emb_params"
"""The key of a file that does not name its token."""


def load_textual_inversions(pipeline: DiffusionPipeline, sources: Sequence[str]) -> None:
    """Adds the tokens of textual inversions to the tokenizers, and their vectors to the text encoders.

    A file of diffusers names its token. The token of any other file is the file's name without the extension.

    Args:
        pipeline: Its tokenizers and text encoders are changed.
        sources: For each textual inversion a hub id or a local folder, or the path of a .safetensors file in either.
            Without a file name, it is `DEFAULT_FILE`.

    Raises:
        InputError: A file does not exist, is damaged or for another model, or its token exists already.
    """
    for source in sources:
        file = read_weights(source, DEFAULT_FILE, "textual_inversion")
        with prefixed(f"textual_inversion: {source} ", ValueError):
            token, vectors = _read(file, pipeline)
            for suffix, tensor in vectors.items():
                _check(pipeline, suffix, token, tensor)
            if len({len(tensor) for tensor in vectors.values()}) > 1:
                raise ValueError("has a different number of vectors for each text encoder")
            for suffix, tensor in vectors.items():
                _add(*_text_model(pipeline, suffix), token, tensor)
    for _, module, end in _wrong_ends(pipeline):
        module.eos_token_id = end


def _add(tokenizer: Any, encoder: Any, token: str, vectors: torch.Tensor) -> None:
    """Adds vectors [n, D] under the tokens that diffusers gives them, but not inside other words as diffusers does."""
    in_words = re.fullmatch(r"\w(.*\w)?", token) is None  # `<cat>` is found in a<cat>b, `style` not in lifestyle
    names = _names(token, len(vectors))
    tokenizer.add_tokens([AddedToken(name, single_word=not in_words) for name in names])
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = encoder.get_input_embeddings().weight
    embeddings.data[tokenizer.convert_tokens_to_ids(names)] = vectors.to(embeddings)


def _names(token: str, count: int) -> list[str]:
    """Returns the tokens of the vectors of a textual inversion, as diffusers names them."""
    return [token, *(f"{token}_{index}" for index in range(1, count))]


def warn_of_wrong_ends(pipeline: DiffusionPipeline) -> None:
    """Warns where a pipeline in memory takes the last textual inversion of a prompt for the prompt's end."""
    for name, module, end in _wrong_ends(pipeline):
        warnings.warn(
            f"checkpoint: {name} takes the last textual inversion of a prompt for the prompt's end, because its "
            f"{type(module).__name__} has eos_token_id 2; set it to {end}",
            InputWarning,
            stacklevel=3,
        )


def _wrong_ends(pipeline: DiffusionPipeline) -> Iterator[tuple[str, Any, int]]:
    """Yields the text encoders that find the end of a prompt wrongly: their name, the module, and the end token's id.

    With the old configuration `eos_token_id: 2`, as SDXL has it, transformers takes the token of the highest id for the
    end. That is a textual inversion where there are any, and SDXL is conditioned on the embedding at the end.
    """
    for suffix in SUFFIXES:
        tokenizer, encoder = _text_model(pipeline, suffix)
        for module in encoder.modules() if isinstance(encoder, nn.Module) else ():
            legacy = getattr(module, "eos_token_id", None) == 2 != tokenizer.eos_token_id
            if legacy and max(tokenizer.added_tokens_decoder) > tokenizer.eos_token_id:
                yield f"text_encoder{suffix}", module, tokenizer.eos_token_id


def _text_model(pipeline: DiffusionPipeline, suffix: str) -> tuple[Any, Any]:
    return getattr(pipeline, f"tokenizer{suffix}", None), getattr(pipeline, f"text_encoder{suffix}", None)


def _read(file: WeightFile, pipeline: DiffusionPipeline) -> tuple[str, dict[str, torch.Tensor]]:
    """Returns the token of a file, and the vectors [n, D] for each text encoder, by the suffix of its name.

    Raises:
        ValueError: The file is no textual inversion, or for another number of text encoders.
    """
    family = type(pipeline).__name__
    expected = [suffix for suffix in SUFFIXES if _text_model(pipeline, suffix)[1] is not None]
    keys = ", ".join(sorted(file.tensors))
    if set(file.tensors) == set(SUFFIXES.values()):
        token, found = file.stem, {suffix: file.tensors[key] for suffix, key in SUFFIXES.items()}
    elif len(file.tensors) == 1:
        token, found = (file.stem if keys == UNNAMED else keys), {"": file.tensors[keys]}
    else:
        shown = textwrap.shorten(keys, 200, placeholder=" …")
        raise ValueError(f"is not a textual inversion: it has {len(file.tensors)} tensors ({shown})")
    if list(found) != expected:
        raise ValueError(
            f"is for a model with {len(found)} text encoder{'s'[: len(found) - 1]}, and this {family} has "
            f"{len(expected)}; a file for SDXL has the tensors {' and '.join(SUFFIXES.values())}"
        )
    return token, {suffix: torch.atleast_2d(tensor) for suffix, tensor in found.items()}


def _check(pipeline: DiffusionPipeline, suffix: str, token: str, vectors: torch.Tensor) -> None:
    """Raises ValueError where vectors do not fit a text encoder, or a prompt could not name them by the token."""
    tokenizer, encoder = _text_model(pipeline, suffix)
    width, longest = encoder.get_input_embeddings().weight.shape[-1], max_tokens(tokenizer)
    if vectors.shape[1:] != (width,):
        family, found = type(pipeline).__name__, list(vectors.shape)
        raise ValueError(f"has a tensor of shape {found}, and text_encoder{suffix} of this {family} takes [n, {width}]")
    if not 1 <= len(vectors) <= longest:
        raise ValueError(f"has {len(vectors)} vectors, and a prompt has 1 to {longest} tokens")
    for name in _names(token, len(vectors) + 1):  # one more would continue this one
        if len(tokenizer(name, add_special_tokens=False).input_ids) < 2:
            raise ValueError(f"has the token {token!r}, and the tokenizer has {name!r} already; rename it")
    owner = re.fullmatch(r"(.+)_\d+", token)
    if owner is not None and owner[1] in tokenizer.added_tokens_encoder:
        raise ValueError(f"has the token {token!r}, which would mean a vector of {owner[1]!r}; rename it")
