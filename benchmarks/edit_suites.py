"""What `benchmarks.edits` compares: on each model, inversion methods by name and editing methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.shared.presets import only_editor, read_model, read_tiny
from renoise import (
    DDIM,
    Anderson,
    DirectInversion,
    EditFriendlyInversion,
    Editor,
    Inverter,
    NoiseCorrection,
    NullTextInversion,
    Pix2PixZeroInversion,
    ReNoise,
    instantiate,
)


@dataclass(frozen=True)
class InversionSetting:
    """One way to invert scenes under their captions.

    Args:
        method: The inversion method.
        at_edit_guidance: Whether scenes are inverted at the guidance of each edit, which must not be 1. Otherwise they
            are inverted once, at guidance 1.
    """

    method: Inverter
    at_edit_guidance: bool = False

    def guidance_for(self, edit_guidance: float) -> float | None:
        """Returns the guidance to invert with for an edit at some guidance. None if there is no such inversion."""
        if not self.at_edit_guidance:
            return 1.0
        return None if edit_guidance == 1 else edit_guidance


@dataclass(frozen=True)
class EditorSetting:
    """One editing method, at any guidance.

    Args:
        class_path: Of the editor; the class name is enough for those that are installed.
        init_args: Its options. Their guidance is replaced.
        inversions: Names of the inversion methods to measure it on. None takes all.
    """

    class_path: str
    init_args: Mapping[str, Any] = field(default_factory=dict)
    inversions: tuple[str, ...] | None = None

    @classmethod
    def of(cls, config: str, inversions: tuple[str, ...] | None = None, **changes: Any) -> EditorSetting:
        """Returns the editor of configs/edits/`config`.yaml with some options changed."""
        editor = only_editor(read_model(f"configs/edits/{config}.yaml"))
        return cls(editor["class_path"], {**editor["init_args"], **changes}, inversions)

    def make(self, guidance_scale: float) -> Editor:
        """Returns the editor at some guidance."""
        init_args = {**self.init_args, "guidance_scale": guidance_scale}
        setting = {"class_path": self.class_path, "init_args": init_args}
        return instantiate(Editor, setting)


@dataclass(frozen=True)
class Suite:
    """One model with one sampler, and what is compared on it: every inversion method with every editor.

    Args:
        model: Checkpoint and sampler, as `model` of a configuration.
        inversions: By the name that tables show.
        editors: Likewise.
    """

    model: Mapping[str, Any]
    inversions: Mapping[str, InversionSetting]
    editors: Mapping[str, EditorSetting]


TINY_SD = {
    "checkpoint": "data/models/tiny-sd",
    "scheduler": "DDIMScheduler",
    "scheduler_options": {"timestep_spacing": "trailing"},
    "num_inference_steps": 20,
}
TURBO = read_tiny("sdxl_turbo")
PRESET, SD_FAST, TURBO_FAST = (
    instantiate(Inverter, read_tiny(name)["inversion"]) for name in ("sdxl_turbo", "sd_fast", "sdxl_turbo_fast")
)
OVERRIDE = NoiseCorrection("override")


def _posterior(temperature: float) -> ReNoise:
    """Returns ReNoise with 30 calls for 20 steps that draw noise: 11 for the cleanest, one for each of the others."""
    return ReNoise(stochastic_steps="posterior", temperature=temperature, solver=Anderson(), max_nfe=30)


PLAIN = ("ddim", "pix2pix_zero", "renoise, K = 1", "renoise, sd_fast")
"""For editors that do not sample the image beside its edit: for them direct inversion is the same as `ddim`."""

SUITES = {
    "tiny-sd": Suite(
        TINY_SD,
        {
            "ddim": InversionSetting(DDIM()),
            "pix2pix_zero": InversionSetting(Pix2PixZeroInversion()),
            "direct": InversionSetting(DirectInversion()),
            "null_text": InversionSetting(NullTextInversion(), at_edit_guidance=True),
            "renoise, K = 1": InversionSetting(ReNoise(1)),
            "renoise, K = 4": InversionSetting(ReNoise(4)),
            "renoise, sd_fast": InversionSetting(SD_FAST),
        },
        {
            "PromptSwap": EditorSetting.of("prompt_swap", (*PLAIN, "renoise, K = 4"), strength=1.0),
            "PromptSwap, strength 0.7": EditorSetting.of("prompt_swap", PLAIN),
            "PromptToPrompt": EditorSetting.of("prompt_to_prompt", (*PLAIN, "direct"), local_blend=False),
            "PromptToPrompt, local blend": EditorSetting.of("prompt_to_prompt", (*PLAIN, "direct", "null_text")),
            "Pix2PixZero": EditorSetting.of("pix2pix_zero", (*PLAIN, "direct")),
            "NegativePrompt": EditorSetting.of("negative_prompt", PLAIN),
            "NullText": EditorSetting.of("null_text", ("null_text", "renoise, K = 1")),
        },
    ),
    "tiny-sdxl-turbo": Suite(
        TURBO,
        {
            "ddim": InversionSetting(DDIM()),
            "ddim, noise overridden": InversionSetting(DDIM(noise_correction=OVERRIDE)),
            "pix2pix_zero": InversionSetting(Pix2PixZeroInversion()),
            "edit_friendly": InversionSetting(EditFriendlyInversion(iterations=0)),
            "renoise, sdxl_turbo": InversionSetting(PRESET),
            "renoise, noise overridden": InversionSetting(
                ReNoise(**{**PRESET.init_args, "noise_correction": OVERRIDE})
            ),
            "renoise, sdxl_turbo_fast": InversionSetting(TURBO_FAST),
            "renoise, at temperature 1": InversionSetting(ReNoise(**{**TURBO_FAST.init_args, "temperature": 1.0})),
        },
        {
            "PromptSwap": EditorSetting("PromptSwap"),
            "EditFriendly, strength 0.75": EditorSetting("EditFriendly", {"strength": 0.75}),
            "PromptToPrompt, local blend": EditorSetting.of("prompt_to_prompt"),
            "Pix2PixZero": EditorSetting.of("pix2pix_zero", cross_attention_guidance_amount=1.0),
            "NegativePrompt": EditorSetting.of("negative_prompt"),
        },
    ),
    "tiny-sd-eta-1": Suite(
        {**TINY_SD, "eta": 1.0},
        {
            "edit_friendly": InversionSetting(EditFriendlyInversion(iterations=0)),
            "ddim, noise overridden": InversionSetting(DDIM(noise_correction=OVERRIDE)),
            "renoise, K = 1, noise overridden": InversionSetting(ReNoise(1, noise_correction=OVERRIDE)),
            "renoise, at temperature 0.1": InversionSetting(_posterior(temperature=0.1)),
            "renoise, at temperature 1": InversionSetting(_posterior(temperature=1.0)),
        },
        {
            "EditFriendly": EditorSetting.of("edit_friendly"),
            "PromptSwap": EditorSetting.of("prompt_swap", strength=1.0),
        },
    ),
}
