"""What the few-step presets show on the shipped models, on fewer scenes than docs/ablation.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ablation import AblationRow, Bench, variants
from benchmarks.shared.evaluation import Judges
from benchmarks.shared.kept_rows import KeptRows
from benchmarks.shared.presets import load, read_tiny
from benchmarks.shared.scenes import unseen_scenes

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """8 unseen scenes, and the preset that a test names."""
    monkeypatch.chdir(REPOSITORY)
    judges = Judges.from_pretrained("data/models/scene-classifier", "data/models/strict-classifier")
    model = read_tiny(request.param)
    return Bench(model, load(model), unseen_scenes(8), judges, KeptRows(tmp_path / "kept.jsonl", AblationRow))


def measured(bench: Bench, *names: str) -> list[AblationRow]:
    """Variants of the preset by the name of their row."""
    found = variants(bench.pipeline.inversion)
    return list(bench.rows({name: found[name] for name in names}).values())


@pytest.mark.parametrize("bench", ["sdxl_turbo"], indirect=True)
def test_turbo_is_exact_and_editable_with_an_nfe_of_41(bench: Bench) -> None:
    names = ("plain reversal (K = 0)", "K = 9, averaging", "+ L_pair, L_patch-KL", "both losses, optimize")
    plain, averaged, regularized, whole = measured(bench, *names)
    assert whole.nfe == 41
    assert whole.psnr > whole.psnr_vae - 1.6, "64 scenes are within 1.5 dB"
    assert whole.target_share is not None
    assert whole.target_share > 0.9, "64 scenes reach 0.95"
    assert averaged.psnr > plain.psnr + 5, "renoising repairs what plain reversal cannot"
    assert regularized.psnr < averaged.psnr, "edit regularization costs PSNR"
    assert regularized.psnr < whole.psnr, "noise correction returns some of it"
    assert regularized.latent_std < averaged.latent_std, "edit regularization brings z_T nearer to noise"


@pytest.mark.parametrize("bench", ["lcm_lora"], indirect=True)
def test_lcm_lora_is_editable_and_renoising_repairs_it(bench: Bench) -> None:
    plain, whole = measured(bench, "plain reversal (K = 0)", "+ L_pair, L_patch-KL")
    assert whole.target_share is not None
    assert whole.target_share >= 0.85
    assert whole.psnr > plain.psnr + 2
    assert whole.nfe == 32
