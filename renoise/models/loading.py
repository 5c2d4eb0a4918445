"""Makes a `DiffusionModel` of a checkpoint, whose parts are checked, or of a pipeline in memory."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open

from renoise.errors import InputError
from renoise.models.base import DiffusionModel
from renoise.models.lora import merge_lora
from renoise.utils.plugins import load_plugins

ENTRY_POINT_GROUP = "renoise.models"
VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Files that hold a tokenizer's vocabulary. One of them is enough."""
REQUIRED_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
"""Parts that a pipeline in memory must not lack, where its class has them."""
PROBES = 2
"""Noises that `check_prediction_type` asks the network about."""
PROBE_SIDE = 32
"""Their height and width, which every UNet takes."""
MIN_NOISE_SIMILARITY = 0.8
"""Least cosine between pure noise and the prediction of an ε-predicting network. Such networks reach 0.95 or more."""


def load_model(checkpoint: str, lora: str | None = None) -> DiffusionModel:
    """Loads a checkpoint, and merges a LoRA into it where one is named.

    Args:
        checkpoint: A hub id, or a local folder in diffusers layout.
        lora: A hub id, a local folder or a .safetensors file.

    Raises:
        InputError: The checkpoint or the LoRA does not exist, is damaged, or is of a family that is not supported.
    """
    if not checkpoint:
        raise InputError("checkpoint must be a hub id or a local folder in diffusers layout, got an empty string")
    try:
        index: dict[str, Any] = dict(DiffusionPipeline.load_config(checkpoint))
        family = _family(str(index.get("_class_name")), checkpoint)
        _check_parts(checkpoint, index)
        omitted = {"safety_checker": None} if "safety_checker" in index else {}
        pipeline = DiffusionPipeline.from_pretrained(checkpoint, use_safetensors=True, **omitted)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"checkpoint: {checkpoint} cannot be loaded: {reason}") from error
    for name in (
        "text_encoder",
        "text_encoder_2",
    ):  # these keep the type of their files; the others are in float32
        if getattr(pipeline, name, None) is not None:
            getattr(pipeline, name).float()
    if lora is not None:
        merge_lora(pipeline, lora)
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
    model = _wrap(family, pipeline, f"the {name}")
    if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
        model.vae = copy.deepcopy(pipeline.vae).float()  # the pipeline's own stays in float16
    return model


def _wrap(family: type[DiffusionModel], pipeline: DiffusionPipeline, source: str) -> DiffusionModel:
    if pipeline.vae.config.get("latents_mean") is not None:
        raise InputError(f"checkpoint: {source} has an autoencoder with latents_mean, which is not supported")
    return family(pipeline)


def _family(name: str, source: str) -> type[DiffusionModel]:
    """Returns the family of a pipeline class."""
    models = load_plugins(ENTRY_POINT_GROUP, DiffusionModel)
    families = {model.pipeline_class: model for model in models.values()}
    if name not in families:
        raise InputError(f"checkpoint: {source} is a {name}; supported are {', '.join(sorted(families))}")
    return families[name]


@torch.no_grad()
def check_prediction_type(model: DiffusionModel, prediction_type: str, checkpoint: str) -> None:
    """Checks what the network predicts. For pure noise, only a network that predicts ε returns that noise.

    A network's configuration does not say what it predicts, and under a scheduler that is wrong about it the inversion
    fails without a message.

    Args:
        model: Whose network is called.
        prediction_type: What the scheduler takes the network's output for.
        checkpoint: Its name, for the message.

    Raises:
        InputError: The scheduler's `prediction_type` cannot be right.
    """
    shape = (PROBES, model.latent_channels, PROBE_SIDE, PROBE_SIDE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    timestep = model.scheduler.config.num_train_timesteps - 1
    prediction = model.predict(noise, timestep, model.encode_prompts([""] * PROBES)).float()
    if not prediction.isfinite().all():
        return  # every image fails later with a message of its own
    similarity = F.cosine_similarity(prediction.flatten(), noise.flatten(), dim=0).item()
    possible = ("epsilon",) if similarity > MIN_NOISE_SIMILARITY else ("v_prediction", "sample")
    if prediction_type not in possible:
        raise InputError(
            f"checkpoint: the scheduler of {checkpoint} says prediction_type {prediction_type}, but the network "
            f"predicts {' or '.join(possible)}: its output for pure noise has a cosine of {similarity:.2f} with that "
            "noise. Set scheduler and scheduler_options.prediction_type"
        )


def _check_parts(checkpoint: str, index: dict[str, Any]) -> None:
    """Raises InputError where a local checkpoint lacks a part or has a damaged one.

    The libraries do not always complain: without its configuration a text encoder gets random weights, and without its
    vocabulary a tokenizer knows no word.
    """
    if not Path(checkpoint).is_dir():
        return
    parts = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    problems = {name: _problem(Path(checkpoint) / name) for name in parts if name != "safety_checker"}
    found = "; ".join(f"the part {name} {problem}" for name, problem in problems.items() if problem)
    if found:
        raise InputError(f"checkpoint: {checkpoint}: {found}")


def _problem(part: Path) -> str | None:
    """Returns what is wrong with the folder of one part of a pipeline, or None."""
    if not part.is_dir():
        return "is missing"
    if not any(part.glob("*config.json")):
        return "has no configuration"
    if part.name.startswith("tokenizer") and not any((part / name).exists() for name in VOCABULARIES):
        return f"has no vocabulary ({' or '.join(VOCABULARIES)})"
    for path in sorted(part.iterdir()):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass  # the header tells whether the file is complete
        except (OSError, ValueError, SafetensorError) as error:
            return f"has a damaged {path.name} ({error})"
    return None
