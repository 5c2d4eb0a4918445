"""What `benchmarks.edit_benchmark` compares: on each model, inversion settings by name and editing methods by name."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.edit_settings import EditorSetting, InversionSetting, PresetEditor, Suite
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights

OVERRIDE = NoiseCorrection("override")
TURBO = InversionSetting(
    "renoise",
    9,
    AveragingWeights(below=[0.25] * 4, above=[0.0] * 7 + [0.3333] * 3),
    EditRegularization(lambda_pair=10, lambda_patch_kl=0.055),
    NoiseCorrection("optimize"),
)
"""All of configs/tiny/sdxl_turbo.yaml."""
TRAILING = {"timestep_spacing": "trailing"}
PLAIN = ("ddim", "pix2pix_zero", "renoise, K = 1")
"""What editors are measured on that never sample the image beside its edit: to them direct inversion is `ddim`."""

SUITES = (
    Suite(
        name="tiny-sd",
        checkpoint="data/models/tiny-sd",
        scheduler="DDIMScheduler",
        scheduler_options=TRAILING,
        num_inference_steps=20,
        inversions={
            "ddim": InversionSetting("ddim"),
            "pix2pix_zero": InversionSetting("pix2pix_zero"),
            "direct": InversionSetting("direct"),
            "null_text": InversionSetting("null_text", per_guidance=True),
            "renoise, K = 1": InversionSetting("renoise", 1),
            "renoise, K = 4": InversionSetting("renoise", 4),
        },
        editors={
            "PromptSwap": PresetEditor("prompt_swap", {"strength": 1.0}, (*PLAIN, "renoise, K = 4")),
            "PromptSwap, strength 0.7": PresetEditor("prompt_swap", {}, PLAIN),
            "PromptToPrompt": PresetEditor("prompt_to_prompt", {"local_blend": False}, (*PLAIN, "direct")),
            "PromptToPrompt, local blend": PresetEditor("prompt_to_prompt", {}, (*PLAIN, "direct", "null_text")),
            "Pix2PixZero": PresetEditor("pix2pix_zero", {}, (*PLAIN, "direct")),
            "NegativePrompt": PresetEditor("negative_prompt", {}, PLAIN),
            "NullText": PresetEditor("null_text", {}, ("null_text", "renoise, K = 1")),
        },
    ),
    Suite(
        name="tiny-sdxl-turbo",
        checkpoint="data/models/tiny-sdxl-turbo",
        scheduler="EulerAncestralDiscreteScheduler",
        scheduler_options=TRAILING,
        num_inference_steps=4,
        inversions={
            "ddim": InversionSetting("ddim"),
            "ddim, noise overridden": InversionSetting("ddim", noise_correction=OVERRIDE),
            "pix2pix_zero": InversionSetting("pix2pix_zero"),
            "edit_friendly": InversionSetting("edit_friendly"),
            "renoise, the preset": TURBO,
            "renoise, noise overridden": replace(TURBO, noise_correction=OVERRIDE),
        },
        editors={
            "PromptSwap": EditorSetting("PromptSwap"),
            "EditFriendly, strength 0.75": EditorSetting("EditFriendly", {"strength": 0.75}),
            "PromptToPrompt, local blend": PresetEditor("prompt_to_prompt"),
            "Pix2PixZero": PresetEditor("pix2pix_zero", {"cross_attention_guidance_amount": 1.0}),
            "NegativePrompt": PresetEditor("negative_prompt"),
        },
    ),
    Suite(
        name="tiny-sd-eta-1",
        checkpoint="data/models/tiny-sd",
        scheduler="DDIMScheduler",
        scheduler_options=TRAILING,
        num_inference_steps=20,
        eta=1.0,
        inversions={
            "edit_friendly": InversionSetting("edit_friendly"),
            "ddim, noise overridden": InversionSetting("ddim", noise_correction=OVERRIDE),
            "renoise, K = 1, noise overridden": InversionSetting("renoise", 1, noise_correction=OVERRIDE),
        },
        editors={
            "EditFriendly": PresetEditor("edit_friendly"),
            "PromptSwap": PresetEditor("prompt_swap", {"strength": 1.0}),
        },
    ),
)
