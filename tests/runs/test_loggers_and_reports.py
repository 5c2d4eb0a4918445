"""What a run tells beside its files: to loggers, to profilers, and in `config.yaml`, which repeats it."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger, wandb
from PIL import Image
from safetensors import safe_open

from renoise.errors import InputError
from renoise.outputs.loggers import log_summary
from renoise.outputs.manifest import Manifest
from renoise.predict import predict as run_predict

Predict = Callable[..., Any]
Pictures = Callable[..., Path]


def test_a_logger_gets_the_numbers_of_every_image_and_then_the_means(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png", "b.png"), tmp_path / "out"
    (root / "c.png").write_bytes(b"no picture")
    run = predict(root, out, "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={out}", "--data.batch_size=2")
    assert (run.status, run.err) == (0, "")
    with (out / "lightning_logs/version_0/metrics.csv").open(newline="") as file:
        *images, means = csv.DictReader(file)
    assert [row["step"] for row in [*images, means]] == ["0", "1", "2", "3"]
    rows = {row["file_name"]: row for row in Manifest(out).read()}
    for logged, name in zip(images, ("a.png", "b.png", "c.png"), strict=True):
        assert float(logged["failed"]) == (name == "c.png")
        for column in ("psnr", "ssim", "latent_mse", "nfe", "seconds"):
            assert logged[column] == ("" if rows[name][column] is None else str(float(rows[name][column])))
    assert float(means["summary/images"]) == 3
    assert float(means["summary/failed"]) == 1
    assert float(means["summary/nfe"]) == 2
    assert "num_inference_steps: 2" in (out / "lightning_logs/version_0/hparams.yaml").read_text()


def test_loggers_that_take_pictures_get_the_contact_sheet() -> None:
    sheet = Image.new("RGB", (6, 4), "teal")
    board, weights_and_biases = MagicMock(spec=TensorBoardLogger), MagicMock(spec=WandbLogger)
    log_summary([board, weights_and_biases], {"psnr": 20.0, "ssim": None}, sheet, step=5)
    for logger in (board, weights_and_biases):
        logger.log_metrics.assert_called_once_with({"summary/psnr": 20.0}, step=5)
    (name, pixels, step), options = board.experiment.add_image.call_args
    assert (name, pixels.shape, step, options) == ("contact_sheet", (4, 6, 3), 5, {"dataformats": "HWC"})
    weights_and_biases.log_image.assert_called_once_with("contact_sheet", [sheet])


def test_a_missing_package_of_a_logger_is_one_line(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        def __bool__(self) -> bool:
            return False

        def __str__(self) -> str:
            return "Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`"

    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", Missing())
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", "--trainer.logger=WandbLogger")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "pip install -U 'wandb" in run.err


def test_a_profiler_reports(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    reports: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: reports.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lightning.pytorch.profilers.profiler")
    logger.addHandler(handler)
    try:
        run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", "--trainer.profiler=simple")
    finally:
        logger.removeHandler(handler)
    assert run.status == 0, run.err
    (report,) = reports
    assert "predict_step" in report


def test_the_folders_config_repeats_the_run_and_a_refused_command_leaves_it(
    tmp_path: Path, pictures: Pictures, predict: Predict, run_cli: Callable[..., Any]
) -> None:
    root, out, again = pictures(tmp_path / "photos", "a.png"), tmp_path / "out", tmp_path / "again"
    options = ["--model.scheduler=EulerAncestralDiscreteScheduler", "--model.seed=7", "--model.editors=[PromptSwap]"]
    assert predict(root, out, *options).status == 0
    config = (out / "config.yaml").read_text()
    assert predict(root, out, "--model.seed=8").status == 2
    assert (out / "config.yaml").read_text() == config
    run = run_cli("predict", "--config", out / "config.yaml", f"--trainer.default_root_dir={again}")
    assert (run.status, run.err) == (0, "")
    assert (again / "settings.json").read_bytes() == (out / "settings.json").read_bytes()
    latents = []
    for folder in (out, again):
        with safe_open(folder / "inversions/a.png.safetensors", "pt") as file:  # type: ignore[no-untyped-call]
            latents.append(file.get_tensor("latent"))
    assert latents[0].equal(latents[1])
    assert (again / "config.yaml").read_text() == config.replace(str(out), str(again))


@pytest.mark.parametrize("seed", ["5", "0", "true"])
def test_a_seed_that_would_have_no_effect_is_refused(
    seed: str, tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", f"--seed_everything={seed}")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert f"seed_everything: {seed.title() if seed == 'true' else seed} would have no effect" in run.err
    assert "--model.seed" in run.err


def test_a_seed_of_the_environment_is_refused_by_the_program_and_not_in_python(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    root = pictures(tmp_path / "photos", "a.png")
    monkeypatch.setattr("sys.argv", ["renoise", "predict", "--model.checkpoint=x", f"--data.root={root}"])
    with pytest.raises(InputError, match="PL_GLOBAL_SEED: 3 would have no effect"):
        run_predict()
    assert predict(root, tmp_path / "out").status == 0
