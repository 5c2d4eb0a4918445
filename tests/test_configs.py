"""Every config runs as it is, but for its size: hub ids become shipped models, and few images take few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from renoise.outputs.manifest import Manifest

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = sorted(
    path
    for path in (REPOSITORY / "configs").rglob("*.yaml")
    if path.parent.name != "tiny_models"  # tests/tiny_models/test_fit.py
)
PRESETS = ("sd14", "sdxl", "sdxl_turbo", "lcm_lora")
WEIGHTS = [0.5, 0.5], [0.0, 1.0]
TABLE_1 = {
    # scheduler, steps, K, weights below and above t = 250, lambda of the pairwise and of the patch-KL loss
    "sd14": ("DDIMScheduler", 50, 1, *WEIGHTS, 10, 0.05),
    "sdxl": ("DDIMScheduler", 50, 1, *WEIGHTS, 10, 0.055),
    "sdxl_turbo": ("EulerAncestralDiscreteScheduler", 4, 9, [1 / 4] * 4, [0] * 7 + [1 / 3] * 3, 10, 0.055),
    "lcm_lora": ("DDIMScheduler", 4, 7, [1 / 4] * 4, [0] * 5 + [1 / 3] * 3, 20, 0.075),
}
"""The paper's Table 1."""


def model_of(config: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(config.read_text(encoding="utf-8"))["model"])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_runs(
    config: Path,
    tmp_path: Path,
    pictures: Callable[..., Path],
    run_cli: Callable[..., Any],
    stand_ins: Callable[[Path], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)  # where configs are said to run
    root = pictures(tmp_path / "photos", "a.png", "b.png")
    texts = {"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}
    (root / "metadata.jsonl").write_text(json.dumps(texts))
    small = {
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.strategy": "auto",
        "trainer.default_root_dir": tmp_path / "out",
        **stand_ins(config),
        "model.num_inference_steps": 2,
        "data.root": root,
        "data.resolution": 32,
    }
    run = run_cli("predict", "--config", config, *(f"--{name}={value}" for name, value in small.items()))
    assert run.status == 0, run.err
    rows = Manifest(tmp_path / "out").read()
    assert {row["file_name"]: row["status"] for row in rows} == {"a.png": "ok", "b.png": "ok"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_path_in_a_config_exists(config: Path, stand_ins: Callable[[Path], dict[str, str]]) -> None:
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert (REPOSITORY / content["data"]["init_args"]["root"]).exists()
    for shipped in stand_ins(config).values():  # which raises for a hub id that nothing stands in for
        assert (REPOSITORY / shipped).is_dir()
    assert (content["trainer"]["default_root_dir"] or "out/default").split("/")[0] == "out", "git ignores out/"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_and_its_twin_differ_in_checkpoint_and_size_alone(name: str) -> None:
    preset, twin = (
        yaml.safe_load((REPOSITORY / "configs" / folder / f"{name}.yaml").read_text(encoding="utf-8"))
        for folder in ("", "tiny")
    )
    for content in (preset, twin):
        assert content["data"]["init_args"]["captioner"].pop("checkpoint")
    for group, options in (("model", ("checkpoint", "lora")), ("data", ("resolution", "batch_size"))):
        for content in (preset, twin):
            values = content[group].get("init_args", content[group])
            for option in options:
                assert (values.pop(option, None) is None) == (option == "lora" and name != "lcm_lora")
    assert preset == twin


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_values_of_the_papers_table(name: str) -> None:
    model = model_of(REPOSITORY / "configs" / f"{name}.yaml")
    scheduler, steps, iterations, below, above, pair, patch_kl = TABLE_1[name]
    assert (model["scheduler"], model["num_inference_steps"]) == (scheduler, steps)
    assert model["renoise_iterations"] == iterations
    assert model["averaging_weights"]["below"] == pytest.approx(below, abs=1e-4)
    assert model["averaging_weights"]["above"] == pytest.approx(above, abs=1e-4)
    assert model["edit_losses"] == {"lambda_pair": pair, "lambda_patch_kl": patch_kl}


def test_there_are_configs_to_run() -> None:
    assert {"quickstart", *PRESETS} <= {path.stem for path in CONFIGS}
