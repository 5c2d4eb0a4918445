"""Loads an inversion that was saved."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import diffusers
import torch

from renoise.api.inverted_images import InvertedImages
from renoise.api.loading import load
from renoise.api.pipeline import InversionPipeline
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter
from renoise.outputs.inversion_file import read_inversion
from renoise.presets import instantiate

LOAD_ARGUMENTS = ("checkpoint", "lora", "eta", "num_inference_steps", "guidance_scale", "seed")
NEEDED = (*LOAD_ARGUMENTS, "scheduler", "inversion", "file_name", "prompt", "time_ids", "follows_trajectory")
"""What the metadata of a file must have."""


def load_inversion(path: str | PathLike[str], pipeline: InversionPipeline | None = None) -> InvertedImages:
    """Loads one inversion that `InvertedImages.save` or a run saved.

    Args:
        path: The .safetensors file.
        pipeline: What the image was inverted with. None loads the checkpoint that the file names.

    Raises:
        InputError: The file does not exist, is damaged, or does not fit the pipeline.

    Example:
        >>> import renoise, tempfile
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> images = pipeline.invert("data/images/scenes/00-cat.png", "a cat on a checkered green background")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images.save(f"{folder}/cat.safetensors")
        ...     again = renoise.load_inversion(f"{folder}/cat.safetensors")
        >>> again.prompts
        ['a cat on a checkered green background']
    """
    file = Path(path).expanduser()
    try:
        tensors, metadata = read_inversion(file.read_bytes())
    except OSError as error:
        raise InputError(f"path: {file} cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"path: {file} {error}") from error
    missing = [name for name in NEEDED if name not in metadata]
    if missing:
        raise InputError(f"path: {file} does not say its {', '.join(missing)}; it must be the file of an inversion")
    return _restore(tensors, metadata, pipeline or _load_pipeline(metadata))


def _load_pipeline(metadata: dict[str, Any]) -> InversionPipeline:
    scheduler = dict(metadata["scheduler"])
    kind = getattr(diffusers, scheduler.pop("class_name"))
    inversion = instantiate(Inverter, metadata["inversion"])  # type: ignore[type-abstract]
    arguments = {name: metadata[name] for name in LOAD_ARGUMENTS}
    return load(scheduler=kind.from_config(scheduler), inversion=inversion, **arguments)


def _restore(tensors: dict[str, torch.Tensor], metadata: dict[str, Any], pipeline: InversionPipeline) -> InvertedImages:
    model = pipeline.model
    time_ids = torch.tensor([metadata["time_ids"]], dtype=torch.float32)
    conditioning = model.encode_prompts(
        [metadata["prompt"]], metadata["guidance_scale"], time_ids=time_ids.to(model.device)
    )
    inversion = Inversion(
        tensors["latent"][None].to(model.device),
        pipeline.schedule,
        conditioning,
        nfe=torch.zeros(1, dtype=torch.int64, device=model.device),
        follows_trajectory=metadata["follows_trajectory"],
    )
    for name in ("noise", "trajectory", "null_embeddings"):  # [S, …] -> [S, 1, …]
        if name in tensors:
            setattr(inversion, name, tensors[name][:, None].to(model.device))
    return InvertedImages(model, inversion, [metadata["prompt"]], [metadata["file_name"]], time_ids, pipeline.settings)
