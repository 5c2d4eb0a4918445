from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from renoise.inversion.methods import PIX2PIX_ZERO, InversionMethod, make_inverter
from safetensors.torch import load_file

from benchmarks.evaluation import UNSEEN_SEED, images_of, prompts_of
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.models.base import DiffusionModel
from renoise.outputs.manifest import Manifest
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)


def inverted(model: DiffusionModel, method: InversionMethod, keep: bool = False) -> Inversion:
    schedule = Schedule.from_scheduler(model.scheduler, 3)
    losses = EditRegularization(lambda_pair=1.0)
    made = make_inverter(method, model, schedule, Renoising(1), losses, NoiseCorrection(), 0, keep)
    return by(made, model)


@torch.no_grad()
def by(made: Any, model: DiffusionModel) -> Inversion:
    result: Inversion = made.invert(model.encode_images(images_of(SCENES)), *prompts_of(model, SCENES))
    return result


def test_each_method_is_what_its_parts_make(model: DiffusionModel) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, 3)
    parts = {
        "renoise": Inverter(model, schedule, Renoising(1), EditRegularization(lambda_pair=1.0)),
        "ddim": Inverter(model, schedule, Renoising(0)),
        "pix2pix_zero": Inverter(model, schedule, Renoising(0), PIX2PIX_ZERO),
    }
    latents = {}
    for method in ("renoise", "ddim", "pix2pix_zero"):
        latents[method] = inverted(model, method).latents
        torch.testing.assert_close(latents[method], by(parts[method], model).latents)
    assert not torch.allclose(latents["ddim"], latents["pix2pix_zero"], atol=1e-2)
    assert not torch.allclose(latents["ddim"], latents["renoise"], atol=1e-2)


def test_rows_are_one_per_step_for_all_but_renoising(model: DiffusionModel) -> None:
    rows = {method: inverted(model, method).nfe.tolist() for method in ("renoise", "ddim", "pix2pix_zero")}
    assert rows == {"renoise": [6, 6], "ddim": [3, 3], "pix2pix_zero": [3, 3]}


def test_the_trajectory_is_kept_from_noise_to_image_and_only_where_asked_for(model: DiffusionModel) -> None:
    assert inverted(model, "ddim").trajectory is None
    kept = inverted(model, "ddim", keep=True)
    assert kept.trajectory is not None
    assert kept.trajectory.shape == (4, *kept.latents.shape)
    assert torch.equal(kept.trajectory[0], kept.latents)
    torch.testing.assert_close(kept.trajectory[-1], model.encode_images(images_of(SCENES)))
    assert kept.select([1]).trajectory is not None
    torch.testing.assert_close(kept.select([1]).trajectory, kept.trajectory[:, 1:])


@pytest.mark.parametrize("method", get_args(InversionMethod))
def test_every_method_runs_by_name_from_the_command_line(
    method: str, tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", f"--model.inversion={method}", "--model.eta=1", *guidance_for(method))
    assert run.status == 0, run.err
    (row,) = Manifest(tmp_path / "out").read()
    assert row["status"] == "ok"
    assert load_file(tmp_path / "out/inversions/a.png.safetensors")["noise"].shape[0] == 2


def guidance_for(method: str) -> list[str]:
    return ["--model.guidance_scale=2"] if method == "null_text" else []


@pytest.mark.parametrize("method", get_args(InversionMethod))
def test_a_file_holds_what_its_inversion_keeps_and_nothing_more(
    method: str, tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}')
    own = {"null_text": {"null_embeddings"}, "direct": {"trajectory"}}.get(method, set())
    for editor, kept in ((None, set()), ("{class_path: PromptSwap, init_args: {strength: 0.5}}", {"trajectory"})):
        out, editors = tmp_path / f"out {editor is None}", [] if editor is None else [f"--model.editors=[{editor}]"]
        run = predict(root, out, f"--model.inversion={method}", "--model.eta=1", *guidance_for(method), *editors)
        assert run.status == 0, run.err
        tensors = load_file(out / "inversions/a.png.safetensors")
        assert set(tensors) == {"latent", "noise"} | own | kept
        if "trajectory" in tensors:
            assert tensors["trajectory"].shape == (3, *tensors["latent"].shape)
            assert torch.equal(tensors["trajectory"][0], tensors["latent"])
        if "null_embeddings" in tensors:
            assert tensors["null_embeddings"].shape[0] == 2
            assert tensors["null_embeddings"].ndim == 3


def test_a_null_text_file_is_enough_to_make_its_reconstruction(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any], model: DiffusionModel
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    assert predict(root, tmp_path / "out", "--model.inversion=null_text", "--model.guidance_scale=3").status == 0
    tensors = load_file(tmp_path / "out/inversions/a.png.safetensors")
    inversion = Inversion(
        latents=tensors["latent"][None],
        schedule=Schedule.from_scheduler(model.scheduler, 2),
        conditioning=model.encode_prompts([""], 3.0),
        null_embeddings=tensors["null_embeddings"][:, None],
    )
    rebuilt = model.decode_latents(sample(model, inversion))[0].permute(1, 2, 0).numpy() * 255
    written = np.asarray(Image.open(tmp_path / "out/reconstructions/a.png.png"), dtype=float)
    assert np.abs(rebuilt - written).max() <= 1


def test_edit_friendly_without_noise_null_text_without_guidance_and_unknown_methods_are_one_line(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    run = predict(root, tmp_path / "out", "--model.inversion=edit_friendly")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "model.inversion edit_friendly needs a sampler that draws noise" in run.err
    run = predict(root, tmp_path / "out", "--model.inversion=null_text")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "model.inversion null_text needs model.guidance_scale other than 1" in run.err
    run = predict(root, tmp_path / "out", "--model.inversion=magic")
    assert run.status == 2
    assert "inversion" in run.err
    assert "magic" in run.err
