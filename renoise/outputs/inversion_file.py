"""The file of one inversion: a safetensors file whose metadata says how to run the inversion again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from renoise.errors import InputError
from renoise.inversion.base import Inversion

PER_STEP = ("noise", "trajectory", "null_embeddings", "companion")
"""The tensors of an inversion whose first axis is that of the steps or levels, and whose second is the batch."""


def inversion_tensors(inversion: Inversion, position: int) -> dict[str, Tensor]:
    """Returns copies of everything that sampling needs of one image, contiguous and on the CPU.

    Args:
        inversion: The inversion of B images.
        position: Position of the image in the batch.

    Returns:
        `latent` z_T [C, h, w], and where the inversion has them `noise` [S, C, h, w], `trajectory` [S + 1, C, h, w],
        `null_embeddings` [S, length, D] and `companion` [1 or S + 1, C, h, w].
    """
    per_step = {name: getattr(inversion, name) for name in PER_STEP}
    tensors = {"latent": inversion.latents[position]}
    tensors |= {name: tensor[:, position] for name, tensor in per_step.items() if tensor is not None}
    # Copies, because safetensors refuses tensors that share memory, such as z_T and a trajectory that begins with it.
    return {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def inversion_metadata(
    settings: Mapping[str, Any],
    file_name: str,
    prompt: str,
    time_ids: Sequence[float] | None,
    follows_trajectory: bool,
    image_sha256: str | None = None,
) -> dict[str, Any]:
    """Returns the metadata of an inversion's file.

    Args:
        settings: Everything else that the inversion depends on, in JSON's types.
        file_name: Name of the image, which its random numbers depend on.
        prompt: The prompt that the image was inverted with.
        time_ids: SDXL's six sizes and crop offsets in pixels, or None.
        follows_trajectory: See `Inversion`.
        image_sha256: Hash of the image file in hexadecimal; left out where it is not known.
    """
    metadata = {
        **settings,
        "file_name": file_name,
        "prompt": prompt,
        "image_sha256": image_sha256,
        "time_ids": None if time_ids is None else list(time_ids),
        "follows_trajectory": follows_trajectory,
    }
    if image_sha256 is None:
        del metadata["image_sha256"]
    return metadata


def save_inversion(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Returns the content of an inversion's file.

    Args:
        tensors: Tensors that share no memory, see `inversion_tensors`.
        metadata: Values of JSON types; the file stores each as a JSON string.

    Example:
        >>> import torch
        >>> from renoise.outputs.inversion_file import read_inversion, save_inversion
        >>> content = save_inversion({"latent": torch.zeros(4, 8, 8)}, {"prompt": "a cat"})
        >>> tensors, metadata = read_inversion(content)
        >>> tensors["latent"].shape, metadata
        (torch.Size([4, 8, 8]), {'prompt': 'a cat'})
    """
    return save(dict(tensors), {name: json.dumps(value) for name, value in metadata.items()})


def read_inversion(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors and the metadata of an inversion's file.

    Args:
        content: All bytes of the file.

    Raises:
        InputError: The content is damaged or not that of an inversion. The message continues "FILE …".
    """
    try:
        tensors = load(content)
        # The format begins with the length of its header in eight bytes, then the header in JSON.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = {name: json.loads(value) for name, value in header.get("__metadata__", {}).items()}
    except KeyError as error:
        raise InputError(f"has tensors of the type {error}, which torch does not have") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"is damaged: {error}") from error
    if "latent" not in tensors or tensors["latent"].dim() != 3:
        raise InputError("is no file of an inversion: it has no tensor `latent` of three dimensions")
    return tensors, metadata
