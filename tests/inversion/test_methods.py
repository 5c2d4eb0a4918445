"""What holds for every inversion method, in Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.inversions import BoundInverter
from PIL import Image
from safetensors.torch import load_file

import renoise
from benchmarks.shared.scenes import UNSEEN_SEED, images_of, prompts_of
from renoise.core.edit_regularization import EditRegularization
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.ddim import DDIM
from renoise.inversion.discovery import load_inverters
from renoise.inversion.pix2pix_zero import Pix2PixZeroInversion
from renoise.inversion.renoise import ReNoise
from renoise.models.base import DiffusionModel
from renoise.outputs.manifest import Manifest
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
METHODS = sorted(load_inverters())
EXACT = ["BDIA", "EDICT", "OBELM"]
FLOW_ONLY = ["FireFlow", "RFInversion", "RFSolver"]
"""See tests/inversion/test_flow.py."""
OWN_TENSORS = {
    "NullTextInversion": {"null_embeddings"},
    "DirectInversion": {"trajectory"},
    "Noising": {"trajectory"},
    **{method: {"companion"} for method in EXACT},
}


@torch.no_grad()
def small_latents(model: DiffusionModel) -> torch.Tensor:
    """Returns the latents of the scenes at 32×32 pixels."""
    return model.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


@torch.no_grad()
def inverted(model: DiffusionModel, method: Inverter, keep_trajectory: bool = False, steps: int = 3) -> Inversion:
    schedule = Schedule.from_scheduler(model.scheduler, steps)
    bound = BoundInverter(method, model, schedule, keep_trajectory=keep_trajectory)
    return bound.invert(small_latents(model), *prompts_of(model, SCENES))


def found(tensor: torch.Tensor | None) -> torch.Tensor:
    """Returns a tensor that the inversion must have."""
    assert tensor is not None
    return tensor


def relative(error: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Returns the norm of each image's error, relative to that of its latents, [B]."""
    ratio: torch.Tensor = error.flatten(1).norm(dim=1) / latents.flatten(1).norm(dim=1)
    return ratio


def test_fourteen_methods_are_installed() -> None:
    assert METHODS == [
        "BDIA",
        "DDIM",
        "DirectInversion",
        "EDICT",
        "EditFriendlyInversion",
        "FireFlow",
        "Noising",
        "NullTextInversion",
        "OBELM",
        "Pix2PixZeroInversion",
        "RFInversion",
        "RFSolver",
        "ReNoise",
        "UniInv",
    ]


def test_ddim_and_pix2pix_zero_are_renoise_without_iterations(model: DiffusionModel) -> None:
    losses = EditRegularization(lambda_pair=20.0, lambda_kl=20.0, num_reg_steps=5, num_ac_rolls=5)
    ddim, pix2pix_zero = inverted(model, DDIM()), inverted(model, Pix2PixZeroInversion())
    torch.testing.assert_close(ddim.latents, inverted(model, ReNoise(0)).latents)
    torch.testing.assert_close(pix2pix_zero.latents, inverted(model, ReNoise(0, regularization=losses)).latents)
    assert not torch.allclose(ddim.latents, pix2pix_zero.latents, atol=1e-2)
    assert ddim.nfe.tolist() == pix2pix_zero.nfe.tolist() == [3, 3]
    assert inverted(model, ReNoise(1)).nfe.tolist() == [6, 6]


def test_the_residual_is_the_largest_over_the_steps_and_convergence_is_that_of_every_step(
    model: DiffusionModel,
) -> None:
    free = inverted(model, ReNoise(1), steps=10)
    patient = inverted(model, ReNoise(100, tolerance=1e-3), steps=10)
    hasty = inverted(model, ReNoise(0, tolerance=1e-3), steps=10)
    assert free.converged is None
    assert found(patient.converged).tolist() == [True, True]
    assert found(hasty.converged).tolist() == [False, False]
    assert bool((found(patient.residual) <= 1e-3).all())
    assert bool((found(hasty.residual) > 1e-3).all())
    assert bool((found(free.residual) > found(patient.residual)).all())
    assert hasty.nfe.tolist() == [10, 10]
    assert all(10 < nfe < 10 * 101 for nfe in patient.nfe.tolist())


def test_the_residual_of_ddim_is_how_far_its_largest_step_moves_the_latents(model: DiffusionModel) -> None:
    inversion = inverted(model, DDIM(), keep_trajectory=True)
    trajectory = found(inversion.trajectory)
    moved = [
        relative(step.phi * (trajectory[index] - trajectory[index + 1]), trajectory[index + 1])
        for index, step in enumerate(inversion.schedule)
    ]
    torch.testing.assert_close(inversion.residual, torch.stack(moved).amax(dim=0), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_every_step_of_the_sampler_from_a_converged_inversion_is_within_the_tolerance(model: DiffusionModel) -> None:
    inversion = inverted(model, ReNoise(100, tolerance=1e-3), keep_trajectory=True, steps=10)
    trajectory = found(inversion.trajectory)
    for index, step in enumerate(inversion.schedule):
        prediction = model.predict(step.input_scale * trajectory[index], step.timestep, inversion.conditioning)
        sampled = step.denoise(trajectory[index], prediction, None)
        assert bool((relative(sampled - trajectory[index + 1], trajectory[index + 1]) <= 2e-3).all())


def test_the_trajectory_goes_from_noise_to_image_and_is_kept_only_on_request(model: DiffusionModel) -> None:
    assert inverted(model, DDIM()).trajectory is None
    kept = inverted(model, DDIM(), keep_trajectory=True)
    assert kept.trajectory is not None
    assert kept.trajectory.shape == (4, *kept.latents.shape)
    assert torch.equal(kept.trajectory[0], kept.latents)
    torch.testing.assert_close(kept.trajectory[-1], small_latents(model))
    assert kept.select([1]).trajectory is not None
    torch.testing.assert_close(kept.select([1]).trajectory, kept.trajectory[:, 1:])


def options(method: str) -> list[str]:
    guidance = ["--model.guidance_scale=2"] if method == "NullTextInversion" else []
    noise = [] if method in EXACT else ["--model.eta=1"]
    return [f"--model.inversion={method}", *noise, *guidance]


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(FLOW_ONLY)))
def test_every_method_runs_by_its_class_name_and_saves_only_what_is_needed(
    method: str, tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}')
    for editor, kept in ((None, set()), ("{class_path: PromptSwap, init_args: {strength: 0.5}}", {"trajectory"})):
        out, editors = tmp_path / f"out {editor is None}", [] if editor is None else [f"--model.editors=[{editor}]"]
        run = predict(root, out, *options(method), *editors)
        assert run.status == 0, run.err
        (row,) = Manifest(out).read()
        assert row["status"] == "ok"
        tensors = load_file(out / "inversions/a.png.safetensors")
        noise = set() if method in EXACT else {"noise"}
        assert set(tensors) == {"latent"} | noise | OWN_TENSORS.get(method, set()) | kept
        assert method in EXACT or tensors["noise"].shape[0] == 2
        if "companion" in tensors:
            assert tensors["companion"].shape == (3 if kept else 1, *tensors["latent"].shape)
        if "trajectory" in tensors:
            assert tensors["trajectory"].shape == (3, *tensors["latent"].shape)
            assert torch.equal(tensors["trajectory"][0], tensors["latent"])
        if "null_embeddings" in tensors:
            assert tensors["null_embeddings"].shape[0] == 2
            assert tensors["null_embeddings"].ndim == 3


def test_a_null_text_file_is_enough_to_reconstruct(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", "--model.inversion=NullTextInversion", "--model.guidance_scale=3")
    assert run.status == 0, run.err
    (rebuilt,) = renoise.load_inversion(tmp_path / "out/inversions/a.png.safetensors").reconstruct()
    written = np.asarray(Image.open(tmp_path / "out/reconstructions/a.png.png"), dtype=float)
    assert np.abs(np.asarray(rebuilt, dtype=float) - written).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EditFriendlyInversion"], "model.inversion: EditFriendlyInversion needs a sampler that draws noise"),
        (["NullTextInversion"], "model.inversion: NullTextInversion needs a guidance_scale above 1"),
        (["EDICT", "--model.eta=0.5"], "model.inversion: EDICT needs a sampler that draws no noise, such as DDIM"),
        (
            ["BDIA", "--model.scheduler=EulerAncestralDiscreteScheduler"],
            "model.inversion: BDIA needs a sampler that draws no noise, such as DDIMScheduler with eta 0 or Euler",
        ),
        (
            ["OBELM", "--model.scheduler_options={timestep_spacing: linspace}"],
            "model.inversion: OBELM divides by how much a step reduces the noise, and the step at timestep 0 does not",
        ),
        (["BDIA", "--model.inversion.gamma=0"], "gamma must be in (0, 1], got 0.0"),
        (["EDICT", "--model.inversion.mixing=1.5"], "mixing must be in (0, 1], got 1.5"),
        (["DirectInversion", "--model.inversion.path=EDICT"], "EDICT has a sampler of its own; take DDIM or ReNoise"),
        (
            ["EDICT", "--model.editors=[PromptToPrompt]"],
            "model.editors: PromptToPrompt takes each step of the schedule itself, and EDICT has a sampler of its own",
        ),
    ],
)
def test_a_missing_requirement_of_a_method_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    method, *others = arguments
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", f"--model.inversion={method}", *others)
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert message in run.err


def test_an_unknown_method_is_refused_with_the_installed_ones(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", "--model.inversion=Magic")
    assert run.status == 2
    assert "Magic" in run.err
    assert all(name in run.err for name in METHODS)


def test_an_option_that_a_method_does_not_have_is_refused_with_those_it_has(
    tmp_path: Path, pictures: Callable[..., Path], run_cli: Callable[..., Any], tiny_sd: Path
) -> None:
    arguments = ["--model.inversion=DDIM", "--model.inversion.iterations=3"]
    root = pictures(tmp_path / "photos", "a.png")
    run = run_cli("predict", f"--model.checkpoint={tiny_sd}", f"--data.root={root}", *arguments)
    assert run.status == 2
    assert run.err.startswith("error: ")
    assert "Option 'iterations' is not accepted" in run.err
    assert "There are: noise_correction" in run.err
