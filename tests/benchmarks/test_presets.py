"""What the few-step presets show on the shipped models, on fewer scenes than docs/results.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ablation import Preset, methods
from benchmarks.evaluation import UNSEEN_SEED, Evaluation, PromptSwapping, evaluate
from renoise.core.renoise import Renoising
from renoise.inversion.base import Inverter
from tiny_models.judge import SceneJudge
from tiny_models.scenes import random_scenes

REPOSITORY = Path(__file__).resolve().parents[2]
SCENES = random_scenes(16, UNSEEN_SEED)


def measured(name: str, rows: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    """Rows of the ablation of a preset."""
    monkeypatch.chdir(REPOSITORY)
    preset = Preset.read(REPOSITORY / "configs/tiny" / f"{name}.yaml")
    model, schedule = preset.load()
    swapping = PromptSwapping(SceneJudge.from_pretrained("data/models/scene-classifier"), preset.edit_guidance)
    found = []
    for row in rows:
        variant = methods(preset.method)[row]
        renoising = Renoising(variant.iterations, variant.averaging_weights)
        inverter = Inverter(model, schedule, renoising, variant.edit_losses, variant.noise_correction)
        found.append(evaluate(inverter, SCENES, swapping))
    return found


def test_turbo_is_exact_and_editable_in_41_network_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["plain reversal (K = 0)", "K = 9, averaging", "+ L_pair, L_patch-KL", "both losses, optimize"]
    plain, averaged, losses, whole = measured("sdxl_turbo", rows, monkeypatch)
    assert whole.nfe == 41
    assert whole.psnr > whole.psnr_vae - 1.6, "64 scenes are within 1.5 dB"
    assert whole.target_share is not None
    assert whole.target_share > 0.9, "64 scenes reach 0.95"
    assert averaged.psnr > plain.psnr + 5, "renoising repairs what plain reversal cannot"
    assert losses.psnr < averaged.psnr, "the losses have a price"
    assert losses.psnr < whole.psnr, "which the correction returns"
    assert losses.latent_std < averaged.latent_std, "and bring z_T nearer to noise"


def test_lcm_lora_is_editable_and_renoising_repairs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, whole = measured("lcm_lora", ["plain reversal (K = 0)", "+ L_pair, L_patch-KL"], monkeypatch)
    assert whole.target_share is not None
    assert whole.target_share >= 0.85
    assert whole.psnr > plain.psnr + 2
    assert whole.nfe == 32
