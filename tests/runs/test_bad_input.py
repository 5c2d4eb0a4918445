from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.image_bytes import png_header
from PIL import Image
from safetensors.torch import load_file

from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.models.loading import load_model
from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest by file name; every image has one row."""
    lines = Manifest(folder).read()
    by_name = {row["file_name"]: row for row in lines}
    assert len(by_name) == len(lines)
    return by_name


def assert_one_line(run: Any, *phrases: str) -> None:
    """Asserts that a run ended with status 2 and one short line that contains the phrases."""
    assert run.status == 2, run
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1, run.err
    assert len(run.err) < 500, run.err
    for phrase in phrases:
        assert phrase in run.err


# Images and their metadata

GOOD = ["a.jpg", "a.png", "good.png", "two words – 猫 é.png"]
BAD = {
    "truncated.jpg": "JPEG image cannot be decoded: image file is truncated",
    "zero.png": "is not an image in a known format (0 bytes)",
    "text.png": "is not an image in a known format (starts with b'hello')",
    "bomb.png": "is too large: 40000×40000 pixels take 6180 MiB to read",
    "dangling.png": "is a link to a file that does not exist",
    "../outside.png": "its path leads out of data.root",
    "gone.png": "does not exist",
    "\\ud800.png": "the row is not valid Unicode",
    "\\ud800/a.png": "the row is not valid Unicode",
    "a\0b/c.png": "does not exist",
    "/": "its path leads out of data.root",
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> Path:
    """A folder with every kind of bad image, and four good ones."""
    root = pictures(tmp_path_factory.mktemp("mixed") / "photos", *GOOD, "truncated.jpg")
    pictures(root.parent, "outside.png")
    whole = (root / "truncated.jpg").read_bytes()
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "zero.png").touch()
    (root / "text.png").write_text("hello")
    (root / "bomb.png").write_bytes(png_header(40_000, 40_000))
    (root / "dangling.png").symlink_to("nowhere.png")
    lines = ['{"file_name": "good.png", "text": "a fox"}', "{broken"]
    lines += ['{"file_name": "../outside.png"}', '{"file_name": "gone.png"}', '{"file_name": "/"}']
    lines += [r'{"file_name": "\ud800.png"}', r'{"file_name": "\ud800/a.png"}', r'{"file_name": "a\u0000b/c.png"}']
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory, mixed: Path, predict: Predict) -> tuple[Any, Path]:
    """The run over it, and its output folder."""
    folder = tmp_path_factory.mktemp("mixed-out")
    return predict(mixed, folder), folder


@pytest.mark.parametrize(("name", "error"), BAD.items())
def test_a_bad_image_gets_a_row_that_says_what_is_wrong(name: str, error: str, mixed_run: tuple[Any, Path]) -> None:
    row = rows(mixed_run[1])[name]
    assert row["status"] == "failed"
    assert row["error"].startswith(error)


@pytest.mark.parametrize("name", GOOD)
def test_bad_images_do_not_affect_good_ones(name: str, mixed_run: tuple[Any, Path]) -> None:
    run, folder = mixed_run
    assert run.status == 0
    assert rows(folder)[name]["status"] == "ok"
    assert (folder / f"inversions/{name}.safetensors").exists()
    assert (folder / f"reconstructions/{name}.png").exists()


def test_there_is_one_row_for_every_image(mixed_run: tuple[Any, Path]) -> None:
    assert sorted(rows(mixed_run[1])) == sorted([*GOOD, *BAD])


def test_a_broken_line_of_metadata_is_named_and_the_others_are_used(mixed_run: tuple[Any, Path]) -> None:
    run, folder = mixed_run
    (warning,) = run.warnings
    assert "metadata.jsonl, line 2 is skipped: not JSON" in warning
    assert rows(folder)["good.png"]["prompt"] == "a fox"


def test_strict_exits_with_1_after_all_good_images_are_written(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root = pictures(tmp_path / "photos", "b.png")
    (root / "a.png").touch()
    run = predict(root, tmp_path / "out", "--writer.strict=true", "--data.batch_size=1")
    assert run.status == 1
    assert {name: row["status"] for name, row in rows(tmp_path / "out").items()} == {"a.png": "failed", "b.png": "ok"}
    for name in ("summary.json", "contact_sheet.png", "reconstructions/b.png.png"):
        assert (tmp_path / "out" / name).exists()
    again = predict(root, tmp_path / "out", "--writer.strict=false")
    assert again.status == 0, "results do not depend on strict"


def test_strict_exits_with_0_if_no_image_failed(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    assert predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", "--writer.strict=true").status == 0


def test_the_exit_status_is_1_if_every_image_failed(tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).touch()
    run = predict(tmp_path / "photos", tmp_path / "out")
    assert run.status == 1
    assert {row["status"] for row in rows(tmp_path / "out").values()} == {"failed"}
    assert "failed: a.png: is not an image" in run.out
    assert json.loads((tmp_path / "out/summary.json").read_text())["failed"] == 2


def test_many_failures_do_not_fill_the_screen(tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(25):
        (tmp_path / "photos" / f"{number}.png").touch()
    run = predict(tmp_path / "photos", tmp_path / "out")
    assert sum(line.startswith("failed: ") for line in run.out.splitlines()) < 15
    assert "15 more" in run.out
    assert "manifest.jsonl" in run.out


def test_an_empty_folder_is_one_line(tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "photos").mkdir()
    assert_one_line(predict(tmp_path / "photos", tmp_path / "out"), f"data.root: {tmp_path}/photos contains no images")


def test_a_missing_folder_is_one_line(tmp_path: Path, predict: Predict) -> None:
    run = predict(tmp_path / "photos", tmp_path / "out")
    assert_one_line(run, f"data.root: {tmp_path}/photos does not exist")
    assert not (tmp_path / "out").exists()


# Prompts


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(
    tmp_path: Path, pictures: Pictures, predict: Predict, tiny_sd: Path
) -> None:
    root = pictures(tmp_path / "photos", "long.png", "short.png")
    long = "a cat on a plain red background and " * 8 + "one zebra more"
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": "long.png", "text": long, "edit_text": long}))
    run = predict(root, tmp_path / "out")
    assert run.status == 0
    kept, cut = load_model(str(tiny_sd)).split_prompt(long)
    assert kept + cut == long
    assert cut.endswith("one zebra more")
    assert run.warnings == [
        f"long.png: the {name} is longer than the text encoder takes; cut off: {cut!r}"
        for name in ("prompt", "edit_text")
    ]
    assert rows(tmp_path / "out")["long.png"]["prompt"] == long


# Options

INVERSION = "model.inversion"
MISTAKES = {
    "--model.scheduler=DDIMShceduler": ["model.scheduler: diffusers has no 'DDIMShceduler'", "DDIMScheduler"],
    "--model.scheduler=HeunDiscreteScheduler": ["model.scheduler", "cannot be inverted"],
    "--model.guidance_scale=0.5": ["model.guidance_scale must be 1 (no guidance; 0 means the same) or more, got 0.5"],
    "--model.guidance_scale=.nan": ["model.guidance_scale must be 1 (no guidance; 0 means the same) or more, got nan"],
    "--model.scheduler=FlowMatchEulerDiscreteScheduler": ["is for models trained by flow matching", "these work: DDIM"],
    "--model.scheduler=EDMEulerScheduler": ["model.scheduler: EDMEulerScheduler expects", "EDM"],
    "--model.num_inference_steps=0": ["model.num_inference_steps must be in [1, 1000], got 0"],
    "--model.num_inference_steps=1001": ["model.num_inference_steps must be in [1, 1000], got 1001"],
    "--model.inversion.iterations=-1": [f"{INVERSION}.iterations must be 0 or more, got -1"],
    "--model.inversion.tolerance=0": [f"{INVERSION}.tolerance must be positive, or null, got 0.0"],
    "--model.inversion.averaging_weights={below: [1.0], above: [0.5]}": [
        f"{INVERSION}.averaging_weights.above must be 0 or more each and sum to 1"
    ],
    "--model.inversion.regularization={lambda_pair: -1}": [
        f"{INVERSION}.regularization.lambda_pair must be 0 or more and finite, got -1"
    ],
    "--model.inversion.regularization={lambda_kl: .nan}": [f"{INVERSION}.regularization.lambda_kl", "got nan"],
    "--model.inversion.regularization={lambda_pair: 1, num_reg_steps: 0}": [
        f"{INVERSION}.regularization.num_reg_steps must be 1 or more, got 0"
    ],
    "--model.inversion.regularization={lambda_pair: 0}": ["null turns regularization off"],
    "--model.inversion.noise_correction={method: override}": [
        f"{INVERSION}: noise_correction needs a sampler that draws noise"
    ],
    "--model.inversion.noise_correction={strength: 0}": [
        f"{INVERSION}.noise_correction.strength must be in (0, 1], got 0"
    ],
    "--model.inversion.noise_correction={steps: 0}": [f"{INVERSION}.noise_correction.steps must be 1 or more, got 0"],
    "--model.eta=1.5": ["model.eta must be in [0, 1], got 1.5"],
    "--model.metrics=[psnr, beauty]": ["model.metrics: there is no 'beauty'; there are psnr, ssim"],
    "--model.scheduler_options={spacing: trailing}": ["DDIMScheduler has no 'spacing'", "timestep_spacing"],
    "--model.scheduler_options={prediction_type: v_prediction}": [
        "model.checkpoint: the scheduler of",
        "says prediction_type v_prediction",
        "network predicts epsilon",
    ],
    "--model.scheduler_options={timestep_spacing: sideways}": [
        "model.num_inference_steps or scheduler_options",
        "sideways",
    ],
    "--model.lora=no/such/folder": ["model.lora must be a hub id, a folder or a .safetensors file"],
    "--model.lora=nobody/nothing": ["model.lora: nobody/nothing: no such file or folder here, "],
    "--model.textual_inversion=[no/such/folder]": [
        "model.textual_inversion must be a hub id, a folder or a .safetensors"
    ],
    "--model.textual_inversion=[nobody/nothing]": [
        "model.textual_inversion: nobody/nothing: no such file or folder here, "
    ],
    "--data.resolution=42": ["data.resolution must be a multiple of 4", "got 42"],
    "--data.resolution=0": ["data.resolution must be 8 or more, got 0"],
    "--data.batch_size=0": ["data.batch_size must be 1 or more, got 0"],
    "--data.num_workers=-1": ["data.num_workers must be 0 or more, got -1"],
    "--writer.images_per_shard=0": ["writer.images_per_shard must be 1 or more, or null, got 0"],
    "--model.checkpoint=nobody/nothing": ["model.checkpoint: nobody/nothing"],
    "--model.checkpoint=no/such/folder": ["model.checkpoint: no/such/folder"],
    "--model.checkpoint=": ["model.checkpoint"],
    "--trainer.devices=0": ["trainer: ", "devices"],
    "--data.prompt=${x": ["data.init_args.prompt"],
}


@pytest.mark.parametrize(("option", "phrases"), MISTAKES.items())
def test_an_invalid_value_is_one_line_that_names_the_option(
    option: str, phrases: list[str], tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    assert_one_line(predict(root, tmp_path / "out", option), *phrases)
    assert not list((tmp_path / "out").rglob("*")), "nothing is left for which the corrected command could be refused"


WRONG_TYPES = {
    "data.batch_size": ("two", "expected type int, got two"),
    "data.resize": ("fold", "expected one of 'crop', 'stretch', 'pad', 'bucket', got fold"),
    "model.num_inference_steps": ("2.5", "expected type int, got 2.5"),
    "model.scheduler_options": ("3", "expected type dict, got 3"),
    "model.inversion.iterations": ("two", "expected type int, got two"),
    "model.inversion.tolerance": ("small", "expected type float, got small"),
    "model.inversion.noise_correction": ("sometimes", "'sometimes' is neither a class nor a mapping"),
    "model.inversion.noise_correction.method": ("fly", "expected one of 'override', 'optimize', got fly"),
    "model.inversion.regularization.lambda_pair": ("much", "expected type float, got much"),
    "model.inversion.solver": ("Magic", "'Magic' is neither a class nor a mapping"),
    "writer.strict": ("perhaps", "expected type bool, got perhaps"),
}


@pytest.mark.parametrize(("option", "value", "phrase"), [(option, *pair) for option, pair in WRONG_TYPES.items()])
def test_a_value_of_the_wrong_type_is_one_line_that_names_the_option(
    option: str, value: str, phrase: str, tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", f"--{option}={value}")
    assert_one_line(run, f"error: {option}: {phrase}")


def test_eta_with_a_scheduler_without_it_is_one_line(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", "--model.scheduler=EulerDiscreteScheduler", "--model.eta=0.5")
    assert_one_line(run, "model.eta must be 0 with EulerDiscreteScheduler", "got 0.5")


def test_half_precision_on_a_device_without_it_is_one_line(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolve: Callable[..., torch.Tensor] = torch.nn.functional.conv2d

    def cannot(*tensors: torch.Tensor, **options: object) -> torch.Tensor:
        if tensors[0].dtype == torch.float16:  # as torch has it on older CPUs
            raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")
        return convolve(*tensors, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", cannot)
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", "--trainer.precision=16-true")
    assert_one_line(run, "trainer.precision: this cpu cannot run the model in float16", "bf16-true")


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_sd: Path) -> Path:
    """A copy of the shipped model, to be damaged."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "checkpoint"))


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


PARTS = ["unet", "scheduler", "tokenizer"]
FILES = [
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/config.json",
    "tokenizer/tokenizer.json",
    "scheduler/scheduler_config.json",
]


@pytest.mark.parametrize(
    ("damage", "part"), [*((remove, part) for part in PARTS + FILES), *((halve, file) for file in FILES)]
)
def test_a_damaged_checkpoint_is_one_line(
    damage: Callable[[Path], None], part: str, checkpoint: Path, tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    damage(checkpoint / part)
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", f"--model.checkpoint={checkpoint}")
    assert_one_line(run, f"model.checkpoint: {checkpoint}")
    if (checkpoint / part).parent != checkpoint or damage is remove:
        assert part.split("/")[0] in run.err, "it says which part"


def test_an_unsupported_pipeline_is_answered_with_the_supported_ones(
    checkpoint: Path, tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    index = checkpoint / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "QwenImagePipeline"))
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", f"--model.checkpoint={checkpoint}")
    assert_one_line(run, "is a QwenImagePipeline; supported are ", "StableDiffusionPipeline")


# The output folder


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    (tmp_path / "file").touch()
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "file/out")
    assert_one_line(run, f"trainer.default_root_dir: {tmp_path}/file/out cannot be written: Not a directory")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with the time of its last change and its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_the_output_of_other_settings_is_refused_unless_overwrite_is_set(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    other = ["--model.num_inference_steps=3", "--data.prompt=a cat"]
    refused = predict(root, out, *other)
    assert_one_line(
        refused,
        f"{out} holds the output of a run with other settings",
        "--writer.overwrite true",
        "num_inference_steps was 2, now 3",
    )
    assert "data.prompt was '', now 'a cat'" in refused.err
    assert contents(out) == before

    broken = predict(root, out, *other, "--writer.overwrite=true", "--model.checkpoint=nobody/nothing")
    assert_one_line(broken, "model.checkpoint: nobody/nothing")
    assert contents(out) == before, "a command that cannot run removes nothing"
    broken = predict(root, out, *other, "--writer.overwrite=true", "--data.resolution=42")
    assert_one_line(broken, "data.resolution")
    assert contents(out) == before

    wrong = "--model.scheduler_options={prediction_type: v_prediction}"
    broken = predict(root, out, *other, "--writer.overwrite=true", wrong)
    assert_one_line(broken, "model.checkpoint", "network predicts epsilon")
    assert contents(out) == before

    assert predict(root, out, *other, "--writer.overwrite=true").status == 0
    assert rows(out)["a.png"]["nfe"] == 3
    assert (out / "notes.txt").read_text() == "mine"
    assert predict(root, out, *other).status == 0, "now it is the folder of these settings"


# Latents that turn NaN


@pytest.fixture
def three(tmp_path: Path, pictures: Pictures) -> Path:
    return pictures(tmp_path / "photos", "a.png", "b.png", "c.png")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (1, "the latents turned NaN or infinite at inversion step 1 of 2 (timestep 1)"),
        (2, "the latents turned NaN or infinite at inversion step 2 of 2 (timestep 501)"),
        (3, "the latents turned NaN or infinite in the reconstruction"),
    ],
)
def test_latents_that_turn_nan_fail_only_their_image(
    call: int, error: str, three: Path, tmp_path: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--model.editors=[{class_path: PromptSwap, init_args: {replace: {the: a}}}]", "--data.prompt=the cat"]
    assert predict(three, tmp_path / "well", *options).status == 0
    calls, healthy = [-1], DiffusionModel.predict  # the first asks what the network predicts

    def poisoned(
        self: DiffusionModel, latents: torch.Tensor, timestep: float, conditioning: Conditioning
    ) -> torch.Tensor:
        output = healthy(self, latents, timestep, conditioning)
        calls[0] += 1
        if calls[0] == call:
            output[1, 0, 0, 0] = torch.nan
        return output

    monkeypatch.setattr(DiffusionModel, "predict", poisoned)
    assert predict(three, tmp_path / "ill", *options).status == 0
    row = rows(tmp_path / "ill")["b.png"]
    assert (row["status"], row["error"]) == ("failed", error)
    assert not os.path.exists(tmp_path / "ill/inversions/b.png.safetensors")
    for name in ("a.png", "c.png"):
        well, ill = (tmp_path / run for run in ("well", "ill"))
        latents = [load_file(run / f"inversions/{name}.safetensors")["latent"] for run in (well, ill)]
        torch.testing.assert_close(*latents, rtol=0, atol=1e-6)
        for picture in (f"reconstructions/{name}.png", f"edits/PromptSwap/{name}.png"):
            pixels = [np.asarray(Image.open(run / picture), dtype=int) for run in (well, ill)]
            assert np.abs(pixels[0] - pixels[1]).max() <= 1
        for column in ("psnr", "ssim", "latent_mse", "nfe"):
            assert rows(ill)[name][column] == pytest.approx(rows(well)[name][column], abs=1e-3)
