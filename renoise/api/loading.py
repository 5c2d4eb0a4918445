"""Loads a model and the steps of its sampler: the one way in, for Python and for the command line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from renoise.api.pipeline import InversionPipeline
from renoise.core.prediction_types import prediction_type
from renoise.core.schedule import Schedule
from renoise.errors import InputError, InputWarning, prefixed
from renoise.inversion.base import Inverter
from renoise.inversion.renoise import ReNoise
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import effective_guidance_scale
from renoise.models.loading import load_model, wrap_pipeline
from renoise.models.memory import MemoryOptions
from renoise.models.prediction_type import check_prediction_type
from renoise.models.schedulers import check_kind, replace_scheduler
from renoise.presets import instantiate, read_preset
from renoise.utils.configurable import describe
from renoise.utils.files import real_path

DEFAULTS: dict[str, Any] = {
    "scheduler": None,
    "scheduler_options": None,
    "eta": 0.0,
    "num_inference_steps": 50,
    "num_inversion_steps": None,
    "guidance_scale": 1.0,
    "inversion": None,
    "seed": 0,
}
"""What `load` takes where neither the caller nor a preset says otherwise."""
FEW_STEPS = 8
"""Most steps that a checkpoint which was distilled for few steps is sampled with."""
MEMORY_OPTIONS = [field.name for field in fields(MemoryOptions)]


def load(
    checkpoint: str | Path | DiffusionPipeline | None = None,
    *,
    preset: str | None = None,
    lora: str | None = None,
    textual_inversion: Sequence[str] | None = None,
    scheduler: str | SchedulerMixin | None = None,
    scheduler_options: Mapping[str, Any] | None = None,
    eta: float | None = None,
    num_inference_steps: int | None = None,
    num_inversion_steps: int | None = None,
    guidance_scale: float | None = None,
    inversion: Inverter | None = None,
    seed: int | None = None,
    vae: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **memory: Any,
) -> InversionPipeline:
    """Loads a model, chooses its scheduler, and reads the scheduler's steps.

    Args:
        checkpoint: A hub id, a local folder in diffusers layout, a single .safetensors file, or a diffusers pipeline in
            memory. The pipeline is not changed; its scheduler, type and device are used. None takes the preset's
            checkpoint, LoRA and textual inversions.
        preset: Name of a preset, see `renoise presets`. It gives the arguments that are left out.
        lora: LoRA weights to merge into the checkpoint: a hub id, a folder or a .safetensors file.
        textual_inversion: Textual inversions to load: a list of hub ids, folders or .safetensors files.
        scheduler: A diffusers scheduler, or its class name. None takes the checkpoint's own.
        scheduler_options: Settings of the scheduler that differ from the checkpoint's.
        eta: DDIM's η in [0, 1], the share of DDPM's noise that every step draws. 0 by default.
        num_inference_steps: Number of steps. 50 by default.
        num_inversion_steps: Number of steps of the inversion, for deterministic samplers. `num_inference_steps` by
            default.
        guidance_scale: Guidance during inversion and reconstruction, 1 or more. 1, the default, is without; 0 means the
            same, as in diffusers.
        inversion: The inversion method. `ReNoise()` by default.
        seed: Seed of all random numbers. 0 by default.
        vae: An autoencoder to use in place of the checkpoint's: a hub id or a local folder.
        dtype: Type of the weights. float32 by default. Latents are in float32 also where the weights are not.
        device: Where the model runs. The CPU by default.
        **memory: Options of `MemoryOptions`, such as offload. They are off by default.

    Raises:
        InputError: An argument is wrong, or the checkpoint cannot be loaded. The message begins with the argument.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sdxl-turbo", preset="sdxl_turbo")
        >>> len(pipeline.schedule)
        4
    """
    given = {name: value for name, value in locals().items() if name not in ("preset", "memory") and value is not None}
    settings = DEFAULTS | ({} if preset is None else _preset_settings(preset, checkpoint)) | given | memory
    if "checkpoint" not in settings:
        raise InputError("checkpoint must be given where there is no preset")
    return _load(**settings)


def _load(
    checkpoint: str | Path | DiffusionPipeline,
    scheduler: str | SchedulerMixin | None,
    scheduler_options: Mapping[str, Any] | None,
    eta: float,
    num_inference_steps: int,
    num_inversion_steps: int | None,
    guidance_scale: float,
    inversion: Inverter | None,
    seed: int,
    **loading: Any,
) -> InversionPipeline:
    guidance_scale = effective_guidance_scale(guidance_scale)
    if isinstance(checkpoint, str | Path):
        model = _read_model(str(checkpoint), **loading)
    else:
        model = _wrap_model(checkpoint, loading)
    name = str(model.pipeline.config.get("_name_or_path") or "the pipeline")
    if isinstance(scheduler, SchedulerMixin):
        chosen = replace_scheduler(scheduler, None, scheduler_options)
    else:
        chosen = replace_scheduler(model.scheduler, scheduler, scheduler_options)
    check_kind(chosen, model.is_flow, name)
    method = inversion or ReNoise()
    schedule = inversion_schedule = _read_steps(model, chosen, "num_inference_steps", num_inference_steps, eta)
    if num_inversion_steps is not None:
        inversion_schedule = _read_steps(model, chosen, "num_inversion_steps", num_inversion_steps, eta)
    if not model.is_flow:
        check_prediction_type(model, prediction_type(chosen), name)
    settings = {
        "checkpoint": real_path(name),
        **{part: loading.get(part) and real_path(loading[part]) for part in ("lora", "vae")},
        "textual_inversion": [real_path(source) for source in loading.get("textual_inversion", ())],
        "scheduler": {"class_name": type(chosen).__name__, **_public(chosen.config)},
        "eta": eta,
        "num_inference_steps": num_inference_steps,
        "num_inversion_steps": num_inference_steps if num_inversion_steps is None else num_inversion_steps,
        "guidance_scale": guidance_scale,
        "inversion": describe(method),
        "seed": seed,
        "dtype": str(model.dtype).removeprefix("torch."),
        **{option: loading.get(option, False) for option in ("vae_tiling", "layerwise_casting")},
        "version": version("renoise"),
    }
    options = (method, guidance_scale, seed, settings, inversion_schedule)
    with prefixed("", ValueError):
        pipeline = InversionPipeline(model, chosen, schedule, *options)
    pipeline.check(method)
    _warn_of_levels(pipeline)
    if model.is_few_step and num_inference_steps > FEW_STEPS:
        warnings.warn(
            f"num_inference_steps: {name} was distilled to sample in {FEW_STEPS} steps or fewer, got "
            f"{num_inference_steps}; take about 4",
            InputWarning,
            stacklevel=3,
        )
    return pipeline


def _read_steps(model: DiffusionModel, scheduler: SchedulerMixin, option: str, steps: int, eta: float) -> Schedule:
    """Returns the steps of a scheduler. A message about their number names the option that gives it."""
    try:
        return model.read_schedule(scheduler, steps, eta)
    except ValueError as error:
        raise InputError(str(error).replace("num_inference_steps", option)) from error


def _warn_of_levels(pipeline: InversionPipeline) -> None:
    """Warns where the inversion ends at another noise level than the sampler starts at."""
    last, first = pipeline.inversion_schedule.steps[0].timestep, pipeline.schedule.steps[0].timestep
    if last == first:
        return
    is_leading = pipeline.scheduler.config.get("timestep_spacing") == "leading"
    advice = "; with scheduler_options.timestep_spacing trailing they are the same" if is_leading else ""
    warnings.warn(
        f"num_inversion_steps: the inversion ends at timestep {last:g}, and the sampler starts at timestep {first:g}, "
        f"so it takes z_T for latents of another noise level{advice}",
        InputWarning,
        stacklevel=4,
    )


def _read_model(
    checkpoint: str,
    lora: str | None = None,
    textual_inversion: Sequence[str] = (),
    vae: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **memory: Any,
) -> DiffusionModel:
    """Loads a checkpoint onto the device."""
    if isinstance(textual_inversion, str):
        raise InputError(f"textual_inversion must be a list, got {textual_inversion!r}")
    options = MemoryOptions(**memory)
    model = load_model(checkpoint, lora, dtype, vae, textual_inversion)
    options.apply(model, torch.device(device))
    return model


def _wrap_model(pipeline: DiffusionPipeline, loading: Mapping[str, Any]) -> DiffusionModel:
    """Wraps a pipeline in memory, which is taken as it is, so there must be no arguments for `loading` it."""
    if not isinstance(pipeline, DiffusionPipeline):
        kind = type(pipeline).__name__
        raise InputError(f"checkpoint must be a path, a hub id or a diffusers pipeline, got an object of type {kind}")
    for name, value in loading.items():
        raise InputError(f"{name} must be left out with a pipeline in memory, got {value}; change the pipeline")
    return wrap_pipeline(pipeline)


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a scheduler's settings without diffusers' notes, which make it forget corrected settings."""
    return {name: describe(value) for name, value in config.items() if not name.startswith("_")}


def _preset_settings(name: str, checkpoint: str | Path | DiffusionPipeline | None) -> dict[str, Any]:
    """Returns the arguments of `load` that a preset gives. What changes its checkpoint belongs to it."""
    model = read_preset(name).get("model")
    if not isinstance(model, dict):
        raise InputError(f"preset: {name} has no section `model`")
    names = [*DEFAULTS]
    if not isinstance(checkpoint, DiffusionPipeline):
        names += MEMORY_OPTIONS
    if checkpoint is None:
        names += ["checkpoint", "lora", "textual_inversion", "vae"]
    settings = {option: model[option] for option in names if model.get(option) is not None}
    if "inversion" in settings:
        settings["inversion"] = instantiate(Inverter, settings["inversion"])
    return settings
