"""Reads presets, their overlays for the shipped models, and the configurations of edits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import renoise
from renoise import InputError, InversionPipeline, Inverter, instantiate, read_preset

CHECKOUT = Path(__file__).resolve().parents[2]
LOAD_OPTIONS = ("lora", "scheduler", "scheduler_options", "eta", "num_inference_steps", "guidance_scale")


def read_model(*sources: str) -> dict[str, Any]:
    """Returns `model` of one or more configurations. Later ones override single values of earlier ones.

    Args:
        *sources: Names of presets, or paths of YAML files below the checkout.
    """
    model: dict[str, Any] = read_preset(*(CHECKOUT / each if each.endswith(".yaml") else each for each in sources))[
        "model"
    ]
    return model


def tiny_presets() -> list[str]:
    """Returns the names of the presets that have an overlay in configs/tiny."""
    overlays = (CHECKOUT / "configs" / "tiny").glob("*.yaml")
    return sorted(path.stem for path in overlays if (CHECKOUT / "configs" / "presets" / path.name).exists())


def read_tiny(preset: str) -> dict[str, Any]:
    """Returns `model` of a preset with the shipped model in place of the real one."""
    return read_model(preset, f"configs/tiny/{preset}.yaml")


def load(model: Mapping[str, Any]) -> InversionPipeline:
    """Loads the checkpoint, the sampler and the inversion method that `model` of a configuration describes."""
    options = {name: model[name] for name in LOAD_OPTIONS if name in model}
    if "inversion" in model:
        options["inversion"] = instantiate(Inverter, model["inversion"])
    return renoise.load(model["checkpoint"], **options)


def only_editor(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `class_path` and `init_args` of a configuration's editor.

    Raises:
        InputError: There is not exactly one editor.
    """
    editors = model.get("editors") or []
    if len(editors) != 1:
        raise InputError(f"model.editors must have exactly one editor to be measured, got {len(editors)}")
    return {"init_args": {}, **editors[0]}
