from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

from renoise.cli import main
from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = [
    "checkpoint",
    "lora",
    "textual_inversion",
    "scheduler",
    "scheduler_options",
    "eta",
    "num_inference_steps",
    "guidance_scale",
]
MODEL += ["inversion", "editors", "metrics", "seed"]
MODEL += [f"inversion.{name}" for name in ("iterations", "tolerance", "solver")]
WRITER = ["overwrite", "strict", "retry_failed", "images_per_shard"]
DATA = ["root", "batch_size", "num_workers", "resolution", "resize", "prompt", "captioner"]
GROUPS = {"model": MODEL, "data": DATA, "writer": WRITER}
OPTIONS = [f"{group}.{name}" for group, names in GROUPS.items() for name in names]


@pytest.fixture
def photos(tmp_path: Path, pictures: Pictures) -> Path:
    return pictures(tmp_path / "photos", "a.png")


# Help


@pytest.fixture(scope="module")
def help_of_predict(run_cli: Callable[..., Any]) -> str:
    run = run_cli("predict", "--help")
    assert run.status == 0
    return str(run.out)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_help_of_predict_explains_every_option(option: str, help_of_predict: str) -> None:
    entry = re.search(rf"\n  --{re.escape(option)}\b[^\n]*\n?((?: {{20,}}[^\n]*\n)*)", help_of_predict)
    assert entry, f"{option} is not in the help"
    assert re.search(r"[a-z]{3,} [a-z]", entry[0].replace(option, "")), f"{option} is not explained"


@pytest.mark.parametrize("columns", [80, 110])
def test_the_help_of_predict_is_short_and_begins_with_examples(
    columns: int, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run_cli("predict", "--help").out.splitlines()
    assert len(lines) < 120
    assert all(len(line) <= max(columns, 90) for line in lines)
    assert "  renoise predict --preset sdxl_turbo_fast --data.root photos/" in lines[:6]
    assert any(line.endswith("(required).") for line in lines)
    assert not any(line.lstrip().startswith("--trainer") for line in lines)


def test_the_whole_help_has_lightnings_options_after_our_own(run_cli: Callable[..., Any]) -> None:
    run = run_cli("predict", "--help-all")
    assert run.status == 0
    own, separator, trainer = run.out.partition("\n  --trainer.accelerator ")
    assert separator
    for option in OPTIONS:
        assert f"\n  --{option}" in own + trainer
    assert "\n  --model.checkpoint" in own
    assert "\n  --trainer.precision" in trainer


def test_the_help_of_the_program_says_what_it_is_and_shows_three_commands(run_cli: Callable[..., Any]) -> None:
    run = run_cli("--help")
    assert run.status == 0
    examples = [line for line in run.out.splitlines() if line.startswith("  renoise ")]
    assert [example.split()[1] for example in examples] == ["edit", "predict", "evaluate"]
    assert "finds the noise" in run.out
    for command in ("edit", "invert", "predict", "evaluate", "advise", "presets", "models"):
        assert f"\n  {command} " in run.out


def test_the_version_is_that_of_the_package(run_cli: Callable[..., Any]) -> None:
    run = run_cli("--version")
    assert (run.status or 0, run.out) == (0, f"renoise {version('renoise')}\n")


def test_presets_are_listed_with_a_line_each(run_cli: Callable[..., Any]) -> None:
    run = run_cli("presets")
    assert run.status == 0
    lines = run.out.splitlines()
    for name in ("lcm_lora", "sd_fast", "sdxl", "sdxl_turbo_fast"):
        assert any(re.match(rf"{name} +\S", line) for line in lines)


def test_a_preset_is_a_config_by_name_and_configs_after_it_override_it(
    photos: Path, tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    overlay = ["--config", REPOSITORY / "configs/tiny/sdxl_turbo.yaml", "--data.resolution=32", f"--data.root={photos}"]
    out = tmp_path / "out"
    run = run_cli("predict", "--preset", "sdxl_turbo", *overlay, f"--trainer.default_root_dir={out}")
    assert run.status == 0, run.err
    (row,) = Manifest(out).read()
    assert row["nfe"] == 41


def test_an_unknown_preset_is_answered_with_those_there_are(run_cli: Callable[..., Any]) -> None:
    for arguments in (["--preset", "turbo"], ["--preset=turbo"]):
        run = run_cli("predict", *arguments)
        assert (run.status, run.err.count("\n")) == (2, 1)
        assert "preset: there is no 'turbo'; there are flux2_klein, flux_dev, flux_schnell, lcm_lora, " in run.err


def test_without_a_command_it_says_which_there_are(run_cli: Callable[..., Any]) -> None:
    run = run_cli()
    assert run.status == 2
    assert "predict" in run.err
    assert "renoise --help" in run.err
    assert "--help" in run.err
    assert "usage:" not in run.err
    shown = run_cli("--help")
    assert shown.status == 0
    text = " ".join(shown.out.split())  # without line breaks
    assert "renoise predict" in text
    assert "  presets " in shown.out


def test_the_installed_command_is_the_same_program() -> None:
    (script,) = entry_points(group="console_scripts", name="renoise")
    assert script.load() is main
    assert "from renoise.cli import main" in (REPOSITORY / "train_like.py").read_text(encoding="utf-8")


# Options that do not exist

UNKNOWN = [
    ("writer", "overwrit", "overwrite"),
    ("model", "stpes", "num_inference_steps"),
    ("data", "rot", "root"),
    ("trainer", "default_rootdir", "default_root_dir"),
]


@pytest.mark.parametrize(("group", "wrong", "right"), UNKNOWN)
def test_an_unknown_option_is_answered_with_those_there_are(
    group: str, wrong: str, right: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    for arguments in ([f"--{group}.{wrong}=3"], [f"--{group}.{wrong}", "3"]):
        run = predict(photos, tmp_path / "out", *arguments)
        assert (run.status, run.err.count("\n")) == (2, 1), run.err
        assert run.err.startswith("error: ")
        assert wrong in run.err
        assert re.search(rf"\b{right}\b", run.err), run.err
        assert "usage:" not in run.err
        assert "Traceback" not in run.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("group", "wrong", "right"), UNKNOWN)
def test_an_unknown_option_in_a_config_is_answered_with_those_there_are(
    group: str, wrong: str, right: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    config = tmp_path / "config.yaml"
    nested = f"data: {{class_path: ImageFolderDataModule, init_args: {{{wrong}: 3}}}}"
    for content in (f"{group}: {{{wrong}: 3}}", nested if group == "data" else f"predict: {{{group}: {{{wrong}: 3}}}}"):
        config.write_text(content)
        run = predict(photos, tmp_path / "out", "--config", config)
        assert (run.status, run.err.count("\n")) == (2, 1), run.err
        assert run.err.startswith("error: ")
        assert wrong in run.err
        assert re.search(rf"\b{right}\b", run.err), run.err
        assert "usage:" not in run.err
    assert not (tmp_path / "out").exists()


OPTIONS_OF_CLASSES = {
    "--model.inversion.iteration=2": "model.inversion: renoise.ReNoise: Option 'iteration' is not accepted."
    " Did you mean iterations? There are: iterations, averaging_weights, tolerance, solver,",
    "--model.inversion={class_path: DDIM, init_args: {iterations: 2}}": "model.inversion: renoise.DDIM: Option"
    " 'iterations' is not accepted. There are: noise_correction",
    "--model.inversion.regularization.lamda_kl=1": "model.inversion.regularization: renoise.EditRegularization:"
    " Option 'lamda_kl' is not accepted. Did you mean lambda_kl? There are: lambda_pair, lambda_patch_kl, lambda_kl,",
    "--model.inversion={class_path: NullTextInversion, init_args: {path: {class_path: DDIM, init_args: {x: 1}}}}": (
        "model.inversion.path: renoise.DDIM: Option 'x' is not accepted. There are: noise_correction"
    ),
    "--data.captioner.checkpoin=x": "data.captioner: renoise.data.CaptionerConfig: Option 'checkpoin' is not accepted."
    " Did you mean checkpoint? There are: checkpoint, max_new_tokens",
    "--model.editors=[{class_path: PromptSwap, init_args: {strenght: 1}}]": "Option 'strenght' is not accepted."
    " Did you mean strength? There are: replace, guidance_scale, strength",
}


@pytest.mark.parametrize(("option", "message"), OPTIONS_OF_CLASSES.items())
def test_an_option_that_a_class_does_not_have_is_answered_with_those_it_has(
    option: str, message: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    config = tmp_path / "method.yaml"
    config.write_text("model: {inversion: {class_path: ReNoise}}")
    run = predict(photos, tmp_path / "out", "--config", config, option)
    assert (run.status, run.err.count("\n")) == (2, 1), run.err
    assert message in run.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--trainer.acelerator=cpu", " Did you mean trainer.accelerator? `renoise predict --help-all` explains the "),
        ("--trainer.x=1", "--trainer.x=1. `renoise predict --help-all` explains the "),
        (
            "--trainer={acelerator: cpu}",
            "trainer.acelerator: there is no such option. Did you mean trainer.accelerator?",
        ),
    ],
)
def test_the_many_options_of_the_trainer_are_not_listed(
    option: str, hint: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    run = predict(photos, tmp_path / "out", option)
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert hint in run.err
    assert len(run.err) < 200


@pytest.mark.parametrize(
    ("arguments", "wrong", "right"),
    [
        (["--model.inversion={class_path:DDIM}"], "class_path:DDIM", "class_path: DDIM"),
        (["--model.inversion", "{class_path:DDIM}"], "class_path:DDIM", "class_path: DDIM"),
        (["--model.inversion={class_path: ReNoise, init_args: {iterations:2}}"], "iterations:2", "iterations: 2"),
        (["--model.editors=[{class_path:PromptSwap}]"], "class_path:PromptSwap", "class_path: PromptSwap"),
        (["--model.scheduler_options={timestep_spacing:linspace}"], "timestep_spacing:linspace", "timestep_spacing: l"),
        (["--writer={overwrite:true}"], "overwrite:true", "overwrite: true"),
    ],
)
def test_a_colon_without_a_space_is_named(
    arguments: list[str], wrong: str, right: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    run = predict(photos, tmp_path / "out", *arguments)
    assert (run.status, run.err.count("\n")) == (2, 1)
    option = arguments[0].lstrip("-").partition("=")[0]
    assert run.err.startswith(f"error: {option}: '{wrong}' has no space after its colon; write '{right}")


@pytest.mark.parametrize(
    "value", ["{iterations: 0}", '{"iterations":0}', "{init_args: {solver: null}, class_path: ReNoise}"]
)
def test_mappings_with_spaces_and_json_are_read(value: str, photos: Path, tmp_path: Path, predict: Predict) -> None:
    run = predict(photos, tmp_path / "out", "--model.num_inference_steps=1", f"--model.inversion={value}")
    assert run.status == 0, run.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.inversion.solver=Magic", "'Magic' is neither a class nor a mapping. There are: Renoising"),
        ("--model.inversion.averaging_weights=3", "Give a mapping of its options: below, above"),
        ("--model.inversion.noise_correction=Magic", "Give a mapping of its options: method, strength, steps"),
        ("--model.inversion.regularization=[1]", "Give a mapping of its options: lambda_pair, lambda_patch_kl"),
        ("--data.captioner=blip", "Give a mapping of its options: checkpoint, max_new_tokens"),
        ("--model.inversion=[DDIM]", "expected a class or a mapping, got ['DDIM']. There are: BDIA, DDIM, Direct"),
        ("--model.inversion={class_path: NullTextInversion, init_args: {path: Magic}}", "There are: BDIA, DDIM"),
        ("--model.inversion={class_path: NullTextInversion, init_args: {optimization: 1}}", "Give a mapping of its"),
    ],
)
def test_a_wrong_object_is_answered_with_what_there_is(
    option: str, message: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    run = predict(photos, tmp_path / "out", option)
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert run.err.startswith(f"error: {option[2:].partition('=')[0]}")
    assert message in run.err
    assert not re.search("Subclass|Subtypes|NestedArg|NoneType", run.err)


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("--model.inversion=Magic", "BDIA, DDIM, DirectInversion, EDICT, EditFriendlyInversion,"),
        ("--model.inversion=no.such.Method", "BDIA, DDIM, DirectInversion, EDICT, EditFriendlyInversion,"),
        (
            "--model.editors=[Magic]",
            "EditFriendly, FlowEdit, NegativePrompt, NullText, Pix2PixZero, PromptSwap,",
        ),
    ],
)
def test_an_unknown_class_is_answered_with_those_there_are(
    option: str, known: str, photos: Path, tmp_path: Path, predict: Predict
) -> None:
    run = predict(photos, tmp_path / "out", option)
    assert (run.status, run.err.count("\n")) == (2, 1), run.err
    assert run.err.startswith(f"error: {option[2:].partition('=')[0]}: ")
    assert f"There are: {known}" in run.err


def test_a_missing_option_that_is_required_is_named(run_cli: Callable[..., Any], photos: Path, tiny_sd: Path) -> None:
    run = run_cli("predict", "--data.root", photos)
    assert (run.status, run.err) == (2, "error: the following arguments are required: model.checkpoint\n")
    run = run_cli("predict", "--model.checkpoint", tiny_sd)
    assert run.status == 2
    assert run.err == "error: data: renoise.ImageFolderDataModule: the following arguments are required: root\n"


def test_an_unknown_command_is_answered_with_those_there_are(run_cli: Callable[..., Any]) -> None:
    run = run_cli("fit")
    assert (run.status, run.err) == (
        2,
        "error: there is no command 'fit'; there are edit, invert, demo, predict, evaluate, advise, presets, models\n",
    )


@pytest.mark.parametrize("content", ["model: [", "- a", "just a word"])
def test_a_config_that_is_not_a_mapping_is_named(content: str, photos: Path, tmp_path: Path, predict: Predict) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(content)
    run = predict(photos, tmp_path / "out", "--config", config)
    assert run.status == 2
    assert "config" in run.err
    assert "Traceback" not in run.err


def test_a_config_that_does_not_exist_is_named(photos: Path, tmp_path: Path, predict: Predict) -> None:
    run = predict(photos, tmp_path / "out", "--config", tmp_path / "none.yaml")
    assert run.status == 2
    assert "none.yaml" in run.err


# Configs


def test_the_command_line_overrides_the_config_and_values_refer_to_each_other(
    photos: Path, tmp_path: Path, run_cli: Callable[..., Any], tiny_sd: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
        model:
          checkpoint: {tiny_sd}
          num_inference_steps: 2
          inversion: {{class_path: ReNoise, init_args: {{iterations: 3}}}}
        data:
          class_path: ImageFolderDataModule
          init_args: {{root: nowhere, resolution: 32}}
        trainer:
          accelerator: cpu
          enable_progress_bar: false
          default_root_dir: {tmp_path}/out/K${{model.inversion.init_args.iterations}}
        """
    )
    run = run_cli("predict", "--config", config, "--model.inversion.iterations", "1", "--data.root", photos)
    assert run.status == 0, run.err
    (row,) = Manifest(tmp_path / "out/K1").read()
    assert row["nfe"] == 2 * (1 + 1)


def test_main_takes_its_arguments_from_the_command_line(
    photos: Path, tmp_path: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, object] = {
        "--model.checkpoint": tiny_sd,
        "--model.num_inference_steps": 1,
        "--model.inversion.iterations": 0,
        "--data.root": photos,
        "--data.resolution": 32,
        "--trainer.default_root_dir": tmp_path / "out",
    }
    monkeypatch.setattr("sys.argv", ["renoise", "predict", *(f"{name}={value}" for name, value in options.items())])
    main()
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "contact sheet: " in captured.out
    assert (tmp_path / "out/manifest.jsonl").exists()


@pytest.mark.parametrize("name", ["NoSuch", "lightning.LightningDataModule", "no.such.Module"])
def test_an_unknown_data_module_is_answered_with_those_there_are(name: str, run_cli: Callable[..., Any]) -> None:
    run = run_cli("predict", "--model.checkpoint=x", f"--data={name}", "--data.root=x")
    assert (run.status, run.err.count("\n")) == (2, 1)
    known = ("CocoCaptions", "HuggingFace", "ImageFolder", "PIEBench", "WebDataset")
    listed = run.err.partition("There are: ")[2].partition("; or give the class path")[0].split(", ")
    assert {f"{each}DataModule" for each in known} <= set(listed), "other tests may have imported more"


def test_the_data_module_of_a_config_can_be_replaced(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    config = REPOSITORY / "configs/quickstart.yaml"
    run = run_cli("predict", "--config", config, "--data=PIEBenchDataModule", f"--data.root={tmp_path}")
    assert run.status == 2
    assert "data.mapping_file: " in run.err
    assert "mapping_file.json does not exist" in run.err


def test_python_m_renoise_is_the_command(run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["renoise", "predict", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("renoise", run_name="__main__")
    assert end.value.code == 0
