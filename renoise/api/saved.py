"""Loads an inversion that was saved."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers import SchedulerMixin

from renoise.api.inverted_images import InvertedImages
from renoise.api.loading import load
from renoise.api.pipeline import InversionPipeline
from renoise.errors import InputError, prefixed
from renoise.inversion.base import Inversion, Inverter
from renoise.outputs.inversion_file import PER_STEP, read_inversion
from renoise.presets import instantiate

LOAD_ARGUMENTS = (
    "checkpoint",
    "lora",
    "textual_inversion",
    "vae",
    "eta",
    "num_inference_steps",
    "num_inversion_steps",
    "guidance_scale",
    "seed",
)
NEEDED = (*LOAD_ARGUMENTS, "scheduler", "inversion", "file_name", "prompt", "time_ids", "follows_trajectory")
"""What the metadata of a file must have."""


def load_inversion(path: str | PathLike[str], pipeline: InversionPipeline | None = None) -> InvertedImages:
    """Loads one inversion that `InvertedImages.save` or a run saved.

    Args:
        path: The .safetensors file.
        pipeline: What the image was inverted with; its checkpoint is not compared with the file's. None loads the
            checkpoint that the file names.

    Raises:
        InputError: The file does not exist or is damaged, its checkpoint cannot be loaded, or the pipeline has other
            latents or other steps.

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
    metadata = {"num_inversion_steps": metadata.get("num_inference_steps"), **metadata}  # older files do not say it
    missing = [name for name in NEEDED if name not in metadata]
    if missing:
        raise InputError(f"path: {file} does not say its {', '.join(missing)}; it must be the file of an inversion")
    with prefixed(f"path: {file}: "):
        if pipeline is None:
            pipeline = _load_pipeline(metadata)
        else:
            _check_steps(metadata, pipeline)
        channels, expected = len(tensors["latent"]), pipeline.model.latent_channels
        if channels != expected:
            raise InputError(f"latent has {channels} channels, and the model takes {expected}")
        return _restore(tensors, metadata, pipeline)


def _load_pipeline(metadata: dict[str, Any]) -> InversionPipeline:
    name = metadata["scheduler"]["class_name"]
    kind = getattr(diffusers, name, None)
    if kind is None:
        raise InputError(f"diffusers has no {name!r}; give the pipeline that the image was inverted with")
    inversion = instantiate(Inverter, metadata["inversion"])
    arguments = {name: metadata[name] for name in LOAD_ARGUMENTS}
    return load(scheduler=_scheduler(kind, metadata), inversion=inversion, **arguments)


def _check_steps(metadata: dict[str, Any], pipeline: InversionPipeline) -> None:
    """Checks that a pipeline samples with the steps that an inversion is sampled with.

    Raises:
        InputError: It does not.
    """
    name, steps, eta = metadata["scheduler"]["class_name"], metadata["num_inference_steps"], metadata["eta"]
    kind = type(pipeline.scheduler)
    if name != kind.__name__ or pipeline.schedule != pipeline.model.read_schedule(
        _scheduler(kind, metadata), steps, eta
    ):
        raise InputError(
            f"the inversion is sampled with {name}, {steps} steps and eta {eta:g}, and the pipeline has "
            f"{kind.__name__} with {len(pipeline.schedule)} steps; give a pipeline with the same steps, or leave it out"
        )


def _scheduler(kind: type[SchedulerMixin], metadata: dict[str, Any]) -> SchedulerMixin:
    config = {option: value for option, value in metadata["scheduler"].items() if option != "class_name"}
    return cast(Any, kind).from_config(config)


def _restore(tensors: dict[str, torch.Tensor], metadata: dict[str, Any], pipeline: InversionPipeline) -> InvertedImages:
    model = pipeline.model
    time_ids = torch.tensor([metadata["time_ids"]], dtype=torch.float32)
    conditioning = model.encode_prompts(
        [metadata["prompt"]], metadata["guidance_scale"], time_ids=time_ids.to(model.device)
    )
    latents = tensors["latent"][None].to(model.device)
    inversion = Inversion(
        latents,
        pipeline.schedules_for(latents)[1],
        conditioning,
        nfe=torch.zeros(1, dtype=torch.int64, device=model.device),
        follows_trajectory=metadata["follows_trajectory"],
    )
    if metadata["num_inversion_steps"] != len(pipeline.schedule):
        inversion.num_inversion_steps = metadata["num_inversion_steps"]
    for name in PER_STEP:  # [S, …] -> [S, 1, …]
        if name in tensors:
            setattr(inversion, name, tensors[name][:, None].to(model.device))
    if inversion.trajectory is not None:
        inversion.image = inversion.trajectory[-1]
    inversion.sampler = instantiate(Inverter, metadata["inversion"]).sampler
    settings = pipeline.settings | {name: metadata[name] for name in ("inversion", "num_inversion_steps")}
    return InvertedImages(model, inversion, [metadata["prompt"]], [metadata["file_name"]], time_ids, settings)
