from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from renoise.checkpoint import load_denoiser
from renoise.denoiser import Denoiser
from renoise.edit_losses import EditLosses
from renoise.evaluation import UNSEEN_SEED, images_of, prompts_of
from renoise.inversion import Inversion, Inverter
from renoise.inversion_methods import PIX2PIX_ZERO, InversionMethod, make_inverter
from renoise.manifest import Manifest
from renoise.noise_correction import NoiseCorrection
from renoise.schedule import Schedule
from renoise.solver import Renoising
from renoise.zoo.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)


@pytest.fixture(scope="module")
def denoiser(tiny_sd: Path) -> Denoiser:
    return load_denoiser(str(tiny_sd))


def inverted(denoiser: Denoiser, method: InversionMethod, keep: bool = False) -> Inversion:
    schedule = Schedule.read(denoiser.scheduler, 3)
    losses = EditLosses(lambda_pair=1.0)
    made = make_inverter(method, denoiser, schedule, Renoising(1), losses, NoiseCorrection(), 0, keep)
    return by(made, denoiser)


@torch.no_grad()
def by(made: Any, denoiser: Denoiser) -> Inversion:
    result: Inversion = made.invert(denoiser.encode_images(images_of(SCENES)), *prompts_of(denoiser, SCENES))
    return result


def test_each_method_is_what_its_parts_make(denoiser: Denoiser) -> None:
    schedule = Schedule.read(denoiser.scheduler, 3)
    parts = {
        "renoise": Inverter(denoiser, schedule, Renoising(1), EditLosses(lambda_pair=1.0)),
        "ddim": Inverter(denoiser, schedule, Renoising(0)),
        "pix2pix_zero": Inverter(denoiser, schedule, Renoising(0), PIX2PIX_ZERO),
    }
    latents = {}
    for method in ("renoise", "ddim", "pix2pix_zero"):
        latents[method] = inverted(denoiser, method).latents
        torch.testing.assert_close(latents[method], by(parts[method], denoiser).latents)
    assert not torch.allclose(latents["ddim"], latents["pix2pix_zero"], atol=1e-2)
    assert not torch.allclose(latents["ddim"], latents["renoise"], atol=1e-2)


def test_rows_are_one_per_step_for_all_but_renoising(denoiser: Denoiser) -> None:
    rows = {method: inverted(denoiser, method).network_rows.tolist() for method in ("renoise", "ddim", "pix2pix_zero")}
    assert rows == {"renoise": [6, 6], "ddim": [3, 3], "pix2pix_zero": [3, 3]}


def test_the_trajectory_is_kept_from_noise_to_image_and_only_where_asked_for(denoiser: Denoiser) -> None:
    assert inverted(denoiser, "ddim").trajectory is None
    kept = inverted(denoiser, "ddim", keep=True)
    assert kept.trajectory is not None
    assert kept.trajectory.shape == (4, *kept.latents.shape)
    assert torch.equal(kept.trajectory[0], kept.latents)
    torch.testing.assert_close(kept.trajectory[-1], denoiser.encode_images(images_of(SCENES)))
    assert kept.rows([1]).trajectory is not None
    torch.testing.assert_close(kept.rows([1]).trajectory, kept.trajectory[:, 1:])


@pytest.mark.parametrize("method", get_args(InversionMethod))
def test_every_method_runs_by_name_from_the_command_line(
    method: str, tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", f"--model.inversion={method}", "--model.eta=1")
    assert run.status == 0, run.err
    (row,) = Manifest(tmp_path / "out").read()
    assert row["status"] == "ok"
    assert load_file(tmp_path / "out/inversions/a.png.safetensors")["noise"].shape[0] == 2


def test_edit_friendly_without_noise_and_unknown_methods_are_one_line(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", "--model.inversion=edit_friendly")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "model.inversion edit_friendly needs a sampler that draws noise" in run.err
    run = predict(root, tmp_path / "out", "--model.inversion=magic")
    assert run.status == 2
    assert "inversion" in run.err
    assert "magic" in run.err
