"""Makes a `DiffusionModel` of a checkpoint, whose parts are checked, or of a pipeline in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from safetensors import SafetensorError

from renoise.errors import InputError, prefixed
from renoise.models.base import DiffusionModel
from renoise.models.checkpoint_files import REQUIRED_PARTS, check_parts, find_folder, omitted_parts
from renoise.models.families import load_families
from renoise.models.loading_report import reported_loading
from renoise.models.lora import merge_lora
from renoise.models.single_file import find_config, load_single_file
from renoise.models.textual_inversion import load_textual_inversions, warn_of_wrong_ends
from renoise.utils.hub import check_hub
from renoise.utils.progress import report


def load_model(
    checkpoint: str,
    lora: str | None = None,
    dtype: torch.dtype = torch.float32,
    vae: str | None = None,
    textual_inversion: Sequence[str] = (),
) -> DiffusionModel:
    """Loads a checkpoint, and a LoRA and textual inversions into it where they are named.

    Args:
        checkpoint: A hub id, a local folder in diffusers layout, or a single .safetensors file of a whole checkpoint.
        lora: A hub id, a local folder or a .safetensors file.
        dtype: Type of the weights. They are cast one by one as they are read, so memory holds no second copy of them.
        vae: An autoencoder to use in place of the checkpoint's: a hub id or a local folder.
        textual_inversion: Hub ids, local folders or .safetensors files.

    Raises:
        InputError: The checkpoint or a file does not exist, is damaged, or is of a family that is not supported.
    """
    if not checkpoint:
        raise InputError("checkpoint must be a hub id or a local folder in diffusers layout, got an empty string")
    is_file = Path(checkpoint).is_file()
    config = find_config(Path(checkpoint)) if is_file else checkpoint
    option = f"checkpoint: {checkpoint} cannot be loaded: its configuration" if is_file else "checkpoint"
    advice = f". Put the file into a folder with the configuration files of {config}" if is_file else ""
    try:
        only_cached = check_hub(config, DiffusionPipeline.config_name, option)
    except InputError as error:
        raise InputError(f"{error}{advice}") from error
    try:
        index: dict[str, Any] = DiffusionPipeline.load_config(config, local_files_only=only_cached)
        if not isinstance(index, dict):
            raise InputError(f"checkpoint: {checkpoint}: model_index.json is not a JSON object")
        family = _family(str(index.get("_class_name")), checkpoint)
        parts = omitted_parts(index) | ({} if vae is None else {"vae": _load_vae(vae, dtype)})
        if is_file:
            report(f"loading {checkpoint} …")
            pipeline = load_single_file(Path(checkpoint), config, index, dtype, parts, only_cached)
        else:
            in_half = dtype.itemsize == 2
            folder = find_folder(checkpoint, parts, only_cached, in_half)
            variant = check_parts(checkpoint, folder, index, parts, in_half)
            with reported_loading(checkpoint, folder, [part for part in index if part not in parts], variant):
                pipeline = DiffusionPipeline.from_pretrained(
                    folder, use_safetensors=True, variant=variant, dtype=dtype, **parts
                )
        pipeline.register_to_config(_name_or_path=checkpoint)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"checkpoint: {checkpoint} cannot be loaded: {reason.rstrip('.')}{advice}") from error
    if lora is not None:
        merge_lora(pipeline, lora)
    load_textual_inversions(pipeline, textual_inversion)
    pipeline.vae.to(memory_format=torch.channels_last)  # its convolutions take a third less time
    return _wrap(family, pipeline, checkpoint).requires_grad_(False).eval()


def wrap_pipeline(pipeline: DiffusionPipeline) -> DiffusionModel:
    """Puts a pipeline in memory behind the interface. The pipeline is not changed.

    Raises:
        InputError: The pipeline is of a family that is not supported, lacks a part, or is in training mode.
    """
    name = type(pipeline).__name__
    family = _family(name, "the pipeline")
    missing = [part for part, value in pipeline.components.items() if value is None and part in REQUIRED_PARTS]
    if missing:
        raise InputError(f"checkpoint: the {name} has no {' and no '.join(missing)}")
    training = [part for part, value in pipeline.components.items() if getattr(value, "training", False)]
    if training:
        raise InputError(
            f"checkpoint: the {name} is in training mode ({', '.join(training)}); call .eval() on each part"
        )
    warn_of_wrong_ends(pipeline)
    model = _wrap(family, pipeline, f"the {name}")
    if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
        model.vae = copy.deepcopy(pipeline.vae).float()  # the pipeline's own stays in float16
    return model


def _load_vae(vae: str, dtype: torch.dtype) -> AutoencoderKL:
    only_cached = check_hub(vae, AutoencoderKL.config_name, "vae")
    try:
        kind = AutoencoderKL.load_config(vae, local_files_only=only_cached).get("_class_name")
        if kind != "AutoencoderKL":
            raise InputError(f"vae: {vae} must be an AutoencoderKL, it is a {kind}")
        report(f"loading {vae} …")
        return AutoencoderKL.from_pretrained(vae, use_safetensors=True, dtype=dtype, local_files_only=only_cached)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"vae: {vae} cannot be loaded: {' '.join(str(error).split())}") from error


def _wrap(family: type[DiffusionModel], pipeline: DiffusionPipeline, source: str) -> DiffusionModel:
    with prefixed(f"checkpoint: {source} ", ValueError):
        return family(pipeline)


def _family(name: str, source: str) -> type[DiffusionModel]:
    """Returns the family of a pipeline class."""
    families = load_families()
    if name not in families:
        raise InputError(f"checkpoint: {source} is a {name}; supported are {', '.join(families)}")
    return families[name]
