from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.ablation import PRESETS, AblationRow, Bench, block, main, variants
from benchmarks.shared.evaluation import Judges
from benchmarks.shared.kept_rows import KeptRows
from benchmarks.shared.pages import check_block
from benchmarks.shared.presets import load, read_tiny
from benchmarks.shared.scenes import unseen_scenes
from renoise import Inverter, NoiseCorrection, ReNoise, instantiate

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSIFIERS = ("data/models/scene-classifier", "data/models/strict-classifier")


def method(preset: str) -> Inverter:
    return instantiate(Inverter, read_tiny(preset)["inversion"])


def options(inverter: Inverter) -> dict[str, Any]:
    return {name: value for name, value in inverter.init_args.items() if name != "solver"}


@pytest.mark.parametrize("preset", PRESETS)
def test_variants_go_from_plain_reversal_to_the_whole_preset(preset: str) -> None:
    whole = options(method(preset))
    found = [options(variant) for variant in variants(method(preset)).values()]
    assert found[0] == options(ReNoise(0))
    assert whole in found
    assert all(found.count(each) == 1 for each in found), "no variant is measured twice"


def test_noise_correction_is_varied_for_the_preset_that_has_it_and_no_other() -> None:
    found = {
        preset: {each.init_args["noise_correction"] for each in variants(method(preset)).values()} for preset in PRESETS
    }
    assert found.pop("sdxl_turbo") == {None, NoiseCorrection("override"), NoiseCorrection("optimize", steps=3)}
    assert all(each == {None} for each in found.values())


def test_an_interrupted_ablation_continues_and_the_page_gets_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    measured: list[int] = []

    def measure(*_: object) -> AblationRow:
        measured.append(len(measured))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return AblationRow(30, 31, 0.9, 1e-3 * len(measured), 8, 0.0, 1.0, 0.5, 0.25, 20)

    monkeypatch.setattr(Bench, "_measure", measure)
    page, kept = tmp_path / "results.md", tmp_path / "kept/rows.jsonl"
    page.write_text("above\n<!-- begin lcm_lora -->\n<!-- end lcm_lora -->\nbelow\n")
    with pytest.raises(KeyboardInterrupt):
        main(2, ["lcm_lora"], page, kept)
    assert page.read_text().count("|") == 0
    main(2, ["lcm_lora"], page, kept)
    names = list(variants(method("lcm_lora")))
    assert len(measured) == len(names) + 1, "the interrupted variant is measured again"
    lines = page.read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:] == names
    assert (lines[0], lines[-1]) == ("above", "below")
    main(3, ["lcm_lora"], page, kept)
    assert len(measured) == 2 * len(names) + 1, "other images are other rows"


def test_a_table_shows_rounded_values_and_the_ceiling() -> None:
    rows = {
        "plain": AblationRow(18.126, 30.104, 0.5, 3.7e-1, 4, -0.01, 0.42, 1.0, 0.75, 15.5, 0.875, 0.5),
        "many steps": AblationRow(29, 30, 0.9, 1e-3, 8, 0.0, 1.0, 1.0, 1.0, 16.0),
    }
    text = block(rows)
    assert "| plain | 3.70e-01 | 18.13 | 4 | -0.010 | 0.420 | 100.0% | 75.0% | 15.50 | 87.5% | 50.0% |" in text
    assert "| many steps | 1.00e-03 | 29.00 | 8 | +0.000 | 1.000 | 100.0% | 100.0% | 16.00 |  |  |" in text
    assert "round trip: 30.10 dB" in text
    assert "at strength" not in block({"many steps": rows["many steps"]})


def test_variants_are_measured_on_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first variants of the LCM-LoRA preset on one scene: renoising must help."""
    monkeypatch.chdir(REPOSITORY)
    model, judges = read_tiny("lcm_lora"), Judges.from_pretrained(*CLASSIFIERS)
    bench = Bench(model, load(model), unseen_scenes(1), judges, KeptRows(tmp_path / "kept.jsonl", AblationRow))
    few = dict(list(variants(method("lcm_lora")).items())[:3])
    plain, one, four = bench.rows(few).values()
    assert [plain.nfe, one.nfe, four.nfe] == [4, 8, 20]
    assert four.latent_mse < plain.latent_mse
    assert four.target_share in (0, 1)
    assert four.strict_share in (0, 1)


def test_every_preset_has_a_place_in_the_page() -> None:
    for name in PRESETS:
        check_block(REPOSITORY / "docs/ablation.md", name)
