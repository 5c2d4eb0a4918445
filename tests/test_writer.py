from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.loading import load_model
from renoise.models.stable_diffusion import StableDiffusion
from renoise.outputs.manifest import Manifest

PROMPT, EDIT = "a fox on a plain red background", "a wolf on a plain red background"
COLUMNS = ["file_name", "status", "error", "prompt", "edit_prompt"]
COLUMNS += ["psnr", "ssim", "psnr_vae", "latent_mse", "nfe", "residual", "converged", "fell_back"]
COLUMNS += ["seconds", "inversion", "edits", "image_file"]
SAMPLERS = ["DDIMScheduler", "EulerAncestralDiscreteScheduler"]


@dataclass
class Output:
    """A run's two folders, what it printed, and its manifest by file name."""

    root: Path
    folder: Path
    out: str
    rows: dict[str, Any]


@pytest.fixture(scope="module", params=SAMPLERS)
def output(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: Callable[..., Path],
    predict: Callable[..., Any],
) -> Output:
    """Three good images, one of them with texts and a column of its own, and one bad."""
    root = pictures(tmp_path_factory.mktemp("photos"), "sub/fox.jpg", "fox.png", "two words é 猫.png")
    (root / "bad.png").write_bytes(b"no picture")
    texts = {"file_name": "sub/fox.jpg", "text": PROMPT, "edit_text": EDIT, "photographer": "me"}
    (root / "metadata.jsonl").write_text(json.dumps(texts), encoding="utf-8")
    folder = tmp_path_factory.mktemp("out") / "new" / "folder"
    options = ["--model.editors=[PromptSwap]", f"--model.scheduler={request.param}", "--model.inversion.iterations=1"]
    run = predict(root, folder, *options, "--data.batch_size=2", "--model.seed=7")
    assert (run.status, run.err, run.warnings, run.noise) == (0, "", [], [])
    rows = Manifest(folder).read()
    assert len(rows) == 4
    return Output(root, folder, run.out, {row["file_name"]: row for row in rows})


def test_every_file_has_its_documented_place(output: Output) -> None:
    good = ["fox.png", "sub/fox.jpg", "two words é 猫.png"]
    expected = {"manifest.jsonl", "summary.json", "settings.json", "config.yaml", "contact_sheet.png"}
    expected |= {f"inversions/{name}.safetensors" for name in good}
    expected |= {f"reconstructions/{name}.png" for name in good}
    expected |= {"edits/PromptSwap/sub/fox.jpg.png"}
    there = {path.relative_to(output.folder).as_posix() for path in output.folder.rglob("*") if path.is_file()}
    thumbnails = {name for name in there if name.startswith("thumbnails/")}
    assert there - thumbnails == expected
    assert len(thumbnails) == len(good)


def test_every_row_has_every_column(output: Output) -> None:
    assert set(output.rows) == {"bad.png", "fox.png", "sub/fox.jpg", "two words é 猫.png"}
    for name, row in output.rows.items():
        assert [column for column in row if column != "photographer"] == COLUMNS, name
    assert "photographer" not in output.rows["fox.png"]


def test_the_row_of_a_good_image_has_its_measurements(output: Output) -> None:
    row = output.rows["sub/fox.jpg"]
    assert (row["status"], row["error"], row["prompt"], row["edit_prompt"]) == ("ok", None, PROMPT, EDIT)
    assert row["photographer"] == "me"
    assert 5 < row["psnr"] < 60
    assert 5 < row["psnr_vae"] < 60
    assert 0 < row["ssim"] <= 1
    assert row["latent_mse"] >= 0
    assert row["nfe"] == 2 * (1 + 1)  # steps · (K + 1)
    assert row["seconds"] > 0
    assert row["inversion"] == "inversions/sub/fox.jpg.safetensors"
    content = (output.root / "sub/fox.jpg").read_bytes()
    assert row["image_file"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert row["image_file"]["bytes"] == len(content)
    assert row["edits"] == {"PromptSwap": "ok"}
    assert "no edit_text" in output.rows["fox.png"]["edits"]["PromptSwap"]


def test_the_row_of_a_failed_image_says_why(output: Output) -> None:
    row = output.rows["bad.png"]
    assert row["status"] == "failed"
    assert "not an image" in row["error"]
    assert {row[column] for column in COLUMNS[5:-2]} == {None}
    assert row["edits"] == {}
    assert row["image_file"]["bytes"] == len(b"no picture")
    assert row["image_file"]["sha256"] is None


def test_the_metrics_match_the_written_files(output: Output) -> None:
    for name, row in output.rows.items():
        if row["status"] == "ok":
            original = Image.open(output.root / name).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
            rebuilt = np.asarray(Image.open(output.folder / "reconstructions" / f"{name}.png"), dtype=float)
            error = np.square(rebuilt - np.asarray(original, dtype=float)).mean()
            assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=0.1)


def test_the_summary_is_the_mean_of_the_rows(output: Output) -> None:
    summary = json.loads((output.folder / "summary.json").read_text())
    assert (summary["images"], summary["failed"]) == (4, 1)
    good = [row for row in output.rows.values() if row["status"] == "ok"]
    for column in ("psnr", "ssim", "psnr_vae", "latent_mse", "nfe", "seconds"):
        assert summary[column] == pytest.approx(sum(row[column] for row in good) / 3)


def test_the_contact_sheet_has_a_row_for_every_good_image(output: Output) -> None:
    with Image.open(output.folder / "contact_sheet.png") as sheet:
        sheet.load()
        three_rows, three_columns = 3 * 128, 3 * 128
        assert three_rows < sheet.height < three_rows + 128
        assert sheet.width > three_columns


def test_pictures_have_the_size_that_was_inverted(output: Output) -> None:
    for path in output.folder.glob("[re]*/**/*.png"):
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 32))


def test_the_screen_shows_the_table_the_failures_and_the_contact_sheet(output: Output) -> None:
    assert "PSNR" in output.out
    assert "failed: bad.png: is not an image in a known format (starts with b'no pictu')" in output.out
    assert f"contact sheet: {output.folder / 'contact_sheet.png'}" in output.out.splitlines()


def read_inversion(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = {name: json.loads(value) for name, value in file.metadata().items()}
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  (no mapping)


def test_an_inversion_file_records_its_settings_and_image(output: Output, tiny_sd: Path) -> None:
    tensors, metadata = read_inversion(output.folder / output.rows["sub/fox.jpg"]["inversion"])
    stochastic = metadata["scheduler"]["class_name"] == "EulerAncestralDiscreteScheduler"
    assert metadata["scheduler"]["class_name"] in SAMPLERS
    assert metadata["checkpoint"] == str(tiny_sd)
    assert metadata["num_inference_steps"] == 2
    assert metadata["inversion"]["init_args"]["iterations"] == 1
    assert (metadata["guidance_scale"], metadata["seed"], metadata["prompt"]) == (1.0, 7, PROMPT)
    assert metadata["image_sha256"] == hashlib.sha256((output.root / "sub/fox.jpg").read_bytes()).hexdigest()
    assert metadata["time_ids"] == [48, 48, 0, 0, 32, 32]
    assert metadata["lora"] is None
    assert metadata["inversion"]["init_args"]["noise_correction"] is None
    assert metadata["file_name"] == "sub/fox.jpg"
    assert metadata["precision"] == "32-true"
    assert metadata["version"] == version("renoise")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == (
        {"latent": (4, 8, 8)} | ({"noise": (2, 4, 8, 8)} if stochastic else {})
    )


def test_an_inversion_file_is_enough_for_its_reconstruction(output: Output) -> None:
    for name, row in output.rows.items():
        if row["status"] != "ok":
            continue
        tensors, metadata = read_inversion(output.folder / row["inversion"])
        model = load_model(metadata["checkpoint"])
        scheduler = getattr(diffusers, metadata["scheduler"].pop("class_name")).from_config(metadata["scheduler"])
        inversion = Inversion(
            latents=tensors["latent"][None],
            schedule=Schedule.from_scheduler(scheduler, metadata["num_inference_steps"]),
            conditioning=model.encode_prompts([metadata["prompt"]], metadata["guidance_scale"]),
            noise=tensors["noise"][:, None] if "noise" in tensors else None,
        )
        rebuilt = model.decode_latents(sample(model, inversion))[0].permute(1, 2, 0).numpy() * 255
        written = np.asarray(Image.open(output.folder / "reconstructions" / f"{name}.png"), dtype=float)
        assert np.abs(rebuilt - written).max() <= 1


# The folder and what is around it


def listing(folder: Path) -> dict[str, int]:
    """Returns every file below a folder, except those of tools, with the time of its last change."""
    kept = (path for path in folder.rglob("*") if not {"__pycache__", ".git"} & set(path.parts))
    return {str(path): path.stat().st_mtime_ns for path in kept if path.is_file()}


def test_nothing_is_written_outside_of_the_output(
    tmp_path: Path,
    pictures: Callable[..., Path],
    predict: Callable[..., Any],
    tiny_sd: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    for name, variable in (("home", "HOME"), ("temporary", "TMPDIR"), ("cache", "XDG_CACHE_HOME")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = listing(tmp_path) | listing(tiny_sd)
    assert predict(root, tmp_path / "out", "--model.editors=[PromptSwap]").status == 0
    after = listing(tmp_path) | listing(tiny_sd)
    assert {path: time for path, time in after.items() if not path.startswith(str(tmp_path / "out"))} == before
    assert sorted(os.listdir(tmp_path / "here")) == []


def test_an_output_folder_inside_the_images_folder_is_not_inverted(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path, "a.png")
    for _ in range(2):
        assert predict(root, root / "out").status == 0
    assert [row["file_name"] for row in Manifest(root / "out").read()] == ["a.png"]


def test_the_images_folder_itself_is_refused_as_output(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path, "a.png")
    run = predict(root, root / ".." / root.name)
    assert run.status == 2
    assert run.err.startswith("error: trainer.default_root_dir: ")
    assert "is also data.root" in run.err
    assert os.listdir(root) == ["a.png"]


def test_a_name_too_long_for_the_suffix_fails_only_its_image(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    long = "n" * 245 + ".png"
    root = pictures(tmp_path / "photos", "a.png", long)
    assert predict(root, tmp_path / "out").status == 0
    rows = {row["file_name"]: row for row in Manifest(tmp_path / "out").read()}
    assert rows["a.png"]["status"] == "ok"
    assert (rows[long]["status"], rows[long]["error"]) == (
        "failed",
        "no file can be written under this name: File name too long",
    )
    assert rows[long]["inversion"] is None
    assert len(list((tmp_path / "out").rglob("n*"))) == 0


def test_a_full_disk_is_one_line(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    root = pictures(tmp_path / "photos", "a.png")
    assert predict(root, tmp_path / "out").status == 0
    pictures(root, "b.png")
    monkeypatch.setattr("os.fsync", full)
    run = predict(root, tmp_path / "out")
    assert run.status == 2
    assert run.err == f"error: trainer.default_root_dir: {tmp_path}/out cannot be written: No space left on device\n"


def test_guidance_counts_two_function_evaluations_a_step(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    assert predict(root, tmp_path / "out", "--model.guidance_scale=2").status == 0
    (row,) = Manifest(tmp_path / "out").read()
    assert row["nfe"] == 2 * 2


def test_latents_do_not_depend_on_the_batch_size(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png", "b.png", "c.png")
    latents = []
    for size in (1, 3):
        assert predict(root, tmp_path / f"out{size}", f"--data.batch_size={size}").status == 0
        files = sorted((tmp_path / f"out{size}/inversions").iterdir())
        latents.append(torch.stack([read_inversion(path)[0]["latent"] for path in files]))
    torch.testing.assert_close(latents[0], latents[1], rtol=0, atol=1e-4)


def test_a_predict_step_can_take_gradients(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[float] = []
    decode = StableDiffusion.decode_latents

    def differentiated(self: StableDiffusion, latents: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(decode(self, leaf).sum(), leaf)
        gradients.append(float(gradient.abs().sum()))
        return decode(self, latents)

    monkeypatch.setattr(StableDiffusion, "decode_latents", differentiated)
    assert predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out").status == 0
    assert min(gradients) > 0


def test_images_in_buckets_keep_their_shape(tmp_path: Path, tiny_sdxl: Path, predict: Callable[..., Any]) -> None:
    root, out = tmp_path / "photos", tmp_path / "out"
    root.mkdir()
    for name, size in {"wide.png": (90, 40), "tall.png": (40, 90), "square.png": (50, 50)}.items():
        Image.new("RGB", size, "teal").save(root / name)
    options = [f"--model.checkpoint={tiny_sdxl}", "--data.resolution=64", "--data.resize=bucket"]
    options += ["--model.editors=[{class_path: PromptToPrompt, init_args: {reweight: {cat: 2}, local_blend: true}}]"]
    run = predict(root, out, "--data.prompt=a cat", *options)
    assert (run.status, run.err) == (0, "")
    expected = {"wide.png": (96, 40), "tall.png": (40, 96), "square.png": (64, 64)}
    for row in Manifest(out).read():
        name, (width, height) = row["file_name"], expected[row["file_name"]]
        assert row["edits"] == {"PromptToPrompt": "ok"}
        for folder in ("reconstructions", "edits/PromptToPrompt"):
            assert Image.open(out / folder / f"{name}.png").size == (width, height)
        with safe_open(out / row["inversion"], framework="pt") as file:
            told = json.loads(file.metadata()["time_ids"])
        assert told[:2] == [*reversed(Image.open(root / name).size)]
        assert told[4:] == [height, width]
