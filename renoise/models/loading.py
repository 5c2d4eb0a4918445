"""From a hub id or a folder to the adapter of its family, checked part by part."""

from __future__ import annotations

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
from renoise.models.sdxl import StableDiffusionXL

FAMILIES: dict[str, type[DiffusionModel]] = {adapter.family: adapter for adapter in (DiffusionModel, StableDiffusionXL)}
"""Adapters by the pipeline class that a checkpoint's `model_index.json` names."""


PROBES, PROBE_SIDE = 2, 32
"""How many noises a network is asked about, and their side: any that a UNet takes."""
LIKE_THE_NOISE = 0.8
"""Cosine of the answer with pure noise from which on it is that noise; ε-predicting networks reach 0.95 and more."""

VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Either of these holds the words that a tokenizer knows."""


def load_model(checkpoint: str, lora: str | None = None) -> DiffusionModel:
    """The adapter for a hub id or a local folder in diffusers layout, with a LoRA merged into it where one is named.

    Raises:
        InputError: no such checkpoint, one that lacks a part, or one of a family not supported.
    """
    if not checkpoint:
        raise InputError("model.checkpoint must be a hub id or a local folder in diffusers layout, got nothing")
    try:
        index: dict[str, Any] = dict(DiffusionPipeline.load_config(checkpoint))
        family = str(index.get("_class_name"))
        if family not in FAMILIES:
            raise InputError(
                f"model.checkpoint: {checkpoint} is a {family}; supported are {', '.join(sorted(FAMILIES))}"
            )
        _check_parts(checkpoint, index)
        without = {"safety_checker": None} if "safety_checker" in index else {}
        pipeline = DiffusionPipeline.from_pretrained(checkpoint, use_safetensors=True, **without)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model.checkpoint: {checkpoint} cannot be loaded: {reason}") from error
    if pipeline.vae.config.get("latents_mean") is not None:
        raise InputError(
            f"model.checkpoint: {checkpoint}: its autoencoder shifts latents by a mean; no adapter does so"
        )
    for name in ("text_encoder", "text_encoder_2"):  # in the type of their files, the others in float32
        if getattr(pipeline, name, None) is not None:
            getattr(pipeline, name).float()
    if lora is not None:
        merge_lora(pipeline, lora)
    return FAMILIES[family](pipeline)


@torch.no_grad()
def check_prediction_type(model: DiffusionModel, prediction_type: str, checkpoint: str) -> None:
    """Asks the network about pure noise: one that predicts ε gives the noise back, one that predicts v or z_0 does not.

    Configurations do not tell an ε- from a v-predicting network, and a scheduler that is wrong about it inverts to
    nonsense without a word.

    Raises:
        InputError: the scheduler's `prediction_type` cannot be right.
    """
    shape = (PROBES, model.pipeline.unet.config.in_channels, PROBE_SIDE, PROBE_SIDE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    noisiest = model.scheduler.config.num_train_timesteps - 1
    answer = model.predict(noise, noisiest, model.encode_prompts([""] * PROBES)).float()
    if not answer.isfinite().all():
        return  # every image's row will say so
    similarity = F.cosine_similarity(answer.flatten(), noise.flatten(), dim=0).item()
    found = ("epsilon",) if similarity > LIKE_THE_NOISE else ("v_prediction", "sample")
    if prediction_type not in found:
        raise InputError(
            f"model.checkpoint: the scheduler for {checkpoint} says prediction_type {prediction_type}, but what the "
            f"network returns for pure noise is {similarity:.0%} that noise, so it predicts {' or '.join(found)}; "
            "model.scheduler and model.scheduler_options.prediction_type set it right"
        )


def _check_parts(checkpoint: str, index: dict[str, Any]) -> None:
    """Names the part that a local checkpoint lacks, or that is damaged; the hub's loader says so by itself.

    The libraries do not always complain: without its configuration a text encoder begins anew with random weights, and
    without its vocabulary a tokenizer knows no word.
    """
    if not Path(checkpoint).is_dir():
        return
    wanted = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    problems = {name: _problem(Path(checkpoint) / name) for name in wanted if name != "safety_checker"}
    found = "; ".join(f"the part {name} {problem}" for name, problem in problems.items() if problem)
    if found:
        raise InputError(f"model.checkpoint: {checkpoint}: {found}")


def _problem(part: Path) -> str | None:
    """What is wrong with the folder of one part of a pipeline, None where nothing is."""
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
                    pass  # its header says whether all of it is there
        except (OSError, ValueError, SafetensorError) as error:
            return f"has a damaged {path.name} ({error})"
    return None
