"""Every model of the zoo trains, stops and goes on from its last checkpoint, under the very config that made it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import ResNetForImageClassification

from renoise.cli import main
from renoise.zoo.scenes import COLOURS, SUBJECTS

CONFIGS = Path(__file__).parents[2] / "configs/zoo"
TINY = ["--data.init_args.scenes=12", "--data.init_args.validation_scenes=2", "--data.init_args.batch_size=4"]
SHORT = ["--trainer.max_steps=3", "--trainer.val_check_interval=1", "--trainer.log_every_n_steps=1"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
EVERY_OTHER_STEP = ["--trainer.callbacks.init_args.every_n_train_steps=2"]  # of the last callback, ModelCheckpoint


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The configs write below the working folder, so let it be a temporary one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("zoo"))
        yield


def fit(name: str, *overrides: str) -> None:
    main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *TINY, *SHORT, *QUIET, *EVERY_OTHER_STEP, *overrides])


def fit_and_resume(name: str, output: Path, *overrides: str) -> None:
    """Three steps; then the last of them again, from the checkpoint after the second."""
    fit(name, *overrides)
    weights = sorted(output.rglob("*.safetensors"))
    assert weights
    before = [path.read_bytes() for path in weights]
    shutil.rmtree(output)
    checkpoint = output.parent / "checkpoints/last.ckpt"
    assert torch.load(checkpoint, weights_only=False)["global_step"] == 2
    fit(name, *overrides, "--ckpt_path", str(checkpoint))
    assert logged_steps(output.parent / "curves/version_0") == {0, 1, 2}
    assert logged_steps(output.parent / "curves/version_1") == {2}
    assert [path.stat().st_size for path in weights] == [len(content) for content in before]


def logged_steps(folder: Path) -> set[int]:
    header, *rows = (line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
    loss, step = header.index("train/loss"), header.index("step")
    return {int(row[step]) for row in rows if row[loss]}


def test_classifier() -> None:
    fit_and_resume("classifier", Path("zoo/classifier/model"))
    network = ResNetForImageClassification.from_pretrained("zoo/classifier/model")
    assert list(network.config.id2label.values()) == [*SUBJECTS, *COLOURS]


def test_autoencoder_then_tiny_sd() -> None:
    fit_and_resume("autoencoder", Path("zoo/autoencoder/vae"), "--data.init_args.photographs=4")
    vae = AutoencoderKL.from_pretrained("zoo/autoencoder/vae")
    assert vae.config.scaling_factor not in (0.18215, 1.0)  # neither Stable Diffusion's nor one never measured
    fit_and_resume("tiny_sd", Path("zoo/tiny-sd/pipeline"))
    pipeline = StableDiffusionPipeline.from_pretrained("zoo/tiny-sd/pipeline").to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a cat on a plain red background", num_inference_steps=1).images[0]
    assert image.size == (64, 64)
