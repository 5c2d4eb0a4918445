from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.ablation import PRESETS, Preset, Variant, main, methods, table
from benchmarks.evaluation import Evaluation
from benchmarks import ablation
from renoise.core.noise_correction import NoiseCorrection
from tiny_models.judge import SceneJudge

REPOSITORY = Path(__file__).resolve().parents[2]


def preset(name: str) -> Preset:
    return Preset.read(REPOSITORY / "configs/tiny" / f"{name}.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_the_rows_begin_with_plain_reversal_and_hold_the_whole_preset(name: str) -> None:
    whole = preset(name).method
    rows = methods(whole)
    assert next(iter(rows.values())) == Variant()
    assert whole in rows.values()
    assert len({repr(method) for method in rows.values()}) == len(rows), "no row is measured twice"


def test_correction_is_taken_apart_where_the_preset_has_it_and_nowhere_else() -> None:
    found = {name: {row.noise_correction for row in methods(preset(name).method).values()} for name in PRESETS}
    assert found.pop("sdxl_turbo") == {NoiseCorrection(), NoiseCorrection("override"), NoiseCorrection("optimize")}
    assert all(each == {NoiseCorrection()} for each in found.values())


def test_a_preset_loads_its_lora_and_its_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    _, schedule = preset("lcm_lora").load()
    assert [step.timestep for step in schedule] == [999, 749, 499, 249]
    assert not schedule.is_stochastic
    assert preset("sdxl_turbo").edit_guidance == 1.0


def test_an_interrupted_run_goes_on_and_the_page_gets_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    measured: list[int] = []

    def evaluate(*arguments: object, **options: object) -> Evaluation:
        measured.append(len(measured))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return Evaluation(30, 31, 0.9, 1e-3 * len(measured), 8, 0.0, 1.0, 0.5, 20)

    monkeypatch.setattr(ablation, "evaluate", evaluate)
    page, kept = tmp_path / "results.md", tmp_path / "kept/rows.jsonl"
    page.write_text("above\n<!-- begin lcm_lora -->\n<!-- end lcm_lora -->\nbelow\n")
    with pytest.raises(KeyboardInterrupt):
        main(2, ("lcm_lora",), page, kept)
    assert page.read_text().count("|") == 0
    main(2, ("lcm_lora",), page, kept)
    rows = methods(preset("lcm_lora").method)
    assert len(measured) == len(rows) + 1  # the one that was interrupted, again
    lines = page.read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:] == list(rows)
    assert lines[0] == "above"
    assert lines[-1] == "below"
    main(3, ("lcm_lora",), page, kept)
    assert len(measured) == 2 * len(rows) + 1, "other images are other rows"


def test_a_table_holds_what_was_measured_rounded_and_the_ceiling() -> None:
    text = table({"plain": Evaluation(18.126, 30.104, 0.5, 3.7e-1, 4, -0.01, 0.42, 1.0, 15.5), "no edit": NO_EDIT})
    assert "| plain | 3.70e-01 | 18.13 | 0.500 | 4 | -0.010 | 0.420 | 100.0% | 15.50 |" in text
    assert "| no edit | 1.00e-03 | 29.00 | 0.900 | 8 | +0.000 | 1.000 |  |  |" in text
    assert "round trip: 30.10 dB" in text


NO_EDIT = Evaluation(29, 30, 0.9, 1e-3, 8, 0.0, 1.0)


def test_rows_are_measured_on_the_model_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two rows of the LCM-LoRA preset, on one scene: renoising must help."""
    monkeypatch.chdir(REPOSITORY)
    few = dict(list(methods(preset("lcm_lora").method).items())[:3])
    monkeypatch.setattr(ablation, "methods", lambda whole: few)
    judge = SceneJudge.from_pretrained("data/models/scene-classifier")
    found = ablation.ablate(preset("lcm_lora"), 1, judge, tmp_path / "kept.jsonl", Console(quiet=True))
    assert [row.nfe for row in found.values()] == [4, 8, 20]
    plain, _, fourth = found.values()
    assert fourth.latent_mse < plain.latent_mse
    assert fourth.target_share in (0, 1)
