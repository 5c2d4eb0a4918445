"""What tests share: the shipped model, pictures to invert, and the command line as a function."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from renoise import DiffusionModel

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
if "PYTEST_XDIST_WORKER" in os.environ:  # workers with as many threads as there are cores, each, hold one another up
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]


SHIPPED = {
    "CompVis/stable-diffusion-v1-4": "data/models/tiny-sd",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "data/models/tiny-sd",
    "stabilityai/stable-diffusion-xl-base-1.0": "data/models/tiny-sdxl",
    "stabilityai/sdxl-turbo": "data/models/tiny-sdxl-turbo",
    "stabilityai/stable-diffusion-3.5-medium": "data/models/tiny-sd3",
    "latent-consistency/lcm-lora-sdv1-5": "data/models/tiny-lcm-lora",
    "Salesforce/blip2-opt-2.7b": "data/models/tiny-blip2",
}
"""What stands in for a hub id: a shipped model of the same family."""


def random_pipeline(source: str) -> DiffusionPipeline:
    """Returns a pipeline of random weights for a hub id of a family that has no shipped model."""
    from helpers import flux, z_image

    makers = {
        "black-forest-labs/FLUX.1-dev": lambda: flux.random_flux(guidance_embeds=True),
        "black-forest-labs/FLUX.1-schnell": lambda: flux.random_flux(guidance_embeds=False),
        "black-forest-labs/FLUX.2-klein-4B": lambda: flux.random_klein(True),
        "Tongyi-MAI/Z-Image-Turbo": z_image.random_pipeline,
    }
    return makers[source]()


@dataclass
class Run:
    """How a command ended: exit status, what it printed, its warnings for the user, and those of libraries."""

    status: int
    out: str
    err: str
    warnings: list[str]
    noise: list[str]


@pytest.fixture(scope="session")
def tiny_sd() -> Path:
    """The shipped miniature Stable Diffusion."""
    return REPOSITORY / "data" / "models" / "tiny-sd"


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> DiffusionModel:
    """The same, loaded; a module's tests share it, and leave it as it was."""
    from renoise.models.loading import load_model

    return load_model(str(tiny_sd))


@pytest.fixture(scope="module")
def latents(model: DiffusionModel) -> torch.Tensor:
    """Of two scenes that no model was trained on."""
    from benchmarks.shared.scenes import UNSEEN_SEED, images_of
    from tiny_models.scenes import random_scenes

    with torch.no_grad():
        return model.encode_images(images_of(random_scenes(2, UNSEEN_SEED)))


@pytest.fixture(scope="session")
def tiny_sdxl() -> Path:
    """The shipped miniature SDXL."""
    return REPOSITORY / "data" / "models" / "tiny-sdxl"


@pytest.fixture(scope="session")
def tiny_sd3() -> Path:
    """The shipped miniature Stable Diffusion 3."""
    return REPOSITORY / "data" / "models" / "tiny-sd3"


@pytest.fixture(scope="session")
def tiny_blip2() -> Path:
    """The shipped miniature BLIP-2."""
    return REPOSITORY / "data" / "models" / "tiny-blip2"


@pytest.fixture(scope="session")
def tiny_clip() -> Path:
    """The shipped miniature CLIP."""
    return REPOSITORY / "data" / "models" / "tiny-clip"


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, str]]:
    """`stand_ins(config)` are the options that put shipped or random models into the places of a config's hub ids."""

    def random_model(source: str) -> str:
        folder = tmp_path_factory.getbasetemp() / source.replace("/", "--")
        if not folder.exists():
            random_pipeline(source).save_pretrained(folder)
        return str(folder)

    def options(config: Path) -> dict[str, str]:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        named = {f"model.{name}": content["model"].get(name) for name in ("checkpoint", "lora")}
        captioner = content["data"]["init_args"].get("captioner") or {}
        named |= {"data.captioner.checkpoint": captioner.get("checkpoint")}
        return {
            option: source if source.startswith("data/models/") else SHIPPED.get(source) or random_model(source)
            for option, source in named.items()
            if source
        }

    return options


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Path]:
    """`pictures(folder, *names)` writes colorful pictures of 48 × 48 pixels, every name its own."""

    def write(folder: Path, *names: str) -> Path:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(path, quality=95)
        return folder

    return write


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Run]:
    """`run_cli("predict", …)` runs the command line in this process."""

    def run(*arguments: str | Path) -> Run:
        from renoise.cli import main
        from renoise.errors import InputWarning

        out, err, status = io.StringIO(), io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always", InputWarning)
            patch.setattr("sys.argv", ["renoise"])  # Lightning warns where it holds pytest's own
            try:
                main([str(argument) for argument in arguments])
            except SystemExit as end:
                status = int(end.code or 0)
        told = [str(warning.message) for warning in caught if issubclass(warning.category, InputWarning)]
        hidden = (InputWarning, DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
        noise = [str(warning.message) for warning in caught if not issubclass(warning.category, hidden)]
        return Run(status, out.getvalue(), err.getvalue(), told, noise)

    return run


@pytest.fixture(scope="session")
def predict(run_cli: Callable[..., Run], tiny_sd: Path) -> Callable[..., Run]:
    """`predict(root, out, *options)` inverts a folder in two steps, small and on the CPU."""

    def run(root: Path, out: Path, *options: str | Path) -> Run:
        given = {
            "--model.checkpoint": tiny_sd,
            "--model.num_inference_steps": 2,
            "--model.inversion.iterations": 0,
            "--data.root": root,
            "--data.resolution": 32,
            "--trainer.default_root_dir": out,
            "--trainer.accelerator": "cpu",
            "--trainer.enable_progress_bar": "false",
        }
        return run_cli("predict", *(f"{name}={value}" for name, value in given.items()), *options)

    return run
