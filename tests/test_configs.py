"""Every config runs, made smaller: hub ids become shipped models, and few images take few steps."""

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
    if path.parent.name
    not in ("tiny_models", "suites")  # tests/tiny_models/test_fit.py, tests/evaluation/test_suites.py
)
PRESETS = ("sd14", "sdxl", "sdxl_turbo", "lcm_lora")
TABLE_1 = {
    # scheduler, steps, K, lambda of the pairwise and of the patch-KL loss; the weights: tests/core/test_renoise_step.py
    "sd14": ("DDIMScheduler", 50, 1, 10, 0.05),
    "sdxl": ("DDIMScheduler", 50, 1, 10, 0.055),
    "sdxl_turbo": ("EulerAncestralDiscreteScheduler", 4, 9, 10, 0.055),
    "lcm_lora": ("DDIMScheduler", 4, 7, 20, 0.075),
}
"""The paper's Table 1."""
FAST = {"sd_fast": "sd14", "sdxl_fast": "sdxl", "sdxl_turbo_fast": "sdxl_turbo", "lcm_lora_fast": "lcm_lora"}
"""The presets of our own, and those of the paper for the same checkpoints."""


def with_preset(config: Path) -> list[Path]:
    """The files that make a whole configuration: an overlay follows its preset."""
    preset = REPOSITORY / "configs/presets" / config.name
    return [preset, config] if config.parent.name == "tiny" and preset.exists() else [config]


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


RUNS = [
    path for path in CONFIGS if path.parent.name != "presets" or not (path.parents[1] / "tiny" / path.name).exists()
]
"""A preset that has an overlay runs with it."""


@pytest.mark.parametrize("config", RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
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
    configs = [argument for path in with_preset(config) for argument in ("--config", path)]
    run = run_cli("predict", *configs, *(f"--{name}={value}" for name, value in small.items()))
    assert run.status == 0, run.err
    rows = Manifest(tmp_path / "out").read()
    assert {row["file_name"]: row["status"] for row in rows} == {"a.png": "ok", "b.png": "ok"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_path_in_a_config_exists(config: Path, stand_ins: Callable[[Path], dict[str, str]]) -> None:
    content = read(config)
    root = content["data"]["init_args"].get("root")
    assert (root is None) == (config.parent.name == "presets"), "a preset leaves the images to the user"
    assert root is None or (REPOSITORY / root).exists()
    for shipped in stand_ins(config).values():  # raises for a hub id that no shipped model stands in for
        assert (REPOSITORY / shipped).is_dir()
    folder = content.get("trainer", {}).get("default_root_dir")
    assert (folder or "out/default").split("/")[0] == "out", "git ignores out/"


@pytest.mark.parametrize("name", [*PRESETS, *FAST, "sd35"])
def test_an_overlay_holds_only_checkpoints_and_sizes(name: str) -> None:
    overlay = read(REPOSITORY / "configs/tiny" / f"{name}.yaml")
    assert set(overlay) == {"model", "data"}
    model = dict(overlay["model"])
    if name in PRESETS:
        latents_of_the_preset = {"regularization": {"reference_size": 128 if name == "sdxl" else 64}}
        assert model.pop("inversion") == {"init_args": latents_of_the_preset}
    assert set(model) == {"checkpoint", "lora"} if name.startswith("lcm_lora") else {"checkpoint"}
    init_args = overlay["data"]["init_args"]
    assert set(init_args) == {"root", "resolution", "batch_size", "captioner"}
    assert set(init_args["captioner"]) == {"checkpoint"}
    preset = read(REPOSITORY / "configs/presets" / f"{name}.yaml")
    assert all(model[option] != preset["model"][option] for option in model)
    assert all(init_args[option] != preset["data"]["init_args"].get(option) for option in init_args)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_values_of_table_1(name: str) -> None:
    model = read(REPOSITORY / "configs/presets" / f"{name}.yaml")["model"]
    inversion = model["inversion"]["init_args"]
    scheduler, steps, iterations, pair, patch_kl = TABLE_1[name]
    assert (model["scheduler"], model["num_inference_steps"]) == (scheduler, steps)
    assert model["inversion"]["class_path"] == "ReNoise"
    assert inversion["iterations"] == iterations
    assert inversion["regularization"] == {"lambda_pair": pair, "lambda_patch_kl": patch_kl}


@pytest.mark.parametrize("name", FAST)
def test_presets_of_our_own_differ_from_the_papers_in_the_inversion_alone(name: str) -> None:
    own, paper = (read(REPOSITORY / "configs/presets" / f"{each}.yaml") for each in (name, FAST[name]))
    for content in (own, paper):
        del content["model"]["inversion"]
        if name == "lcm_lora_fast":  # LCM's own sampler draws the noise that posterior steps need
            content["model"].pop("scheduler")
            content["model"].pop("scheduler_options", None)
    assert own == paper


def test_there_are_configs_to_run() -> None:
    own = {"sd35", "flux_dev", "flux_schnell", "flux2_klein", "z_image_turbo"}
    assert {"quickstart", *PRESETS, *FAST, *own} <= {path.stem for path in CONFIGS}
