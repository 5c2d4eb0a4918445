"""Runs and pipelines whose inversion has other steps than the sampler."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

import renoise
from renoise.errors import InputError, InputWarning
from renoise.inversion.renoise import ReNoise
from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]
TRAILING = {"timestep_spacing": "trailing"}
SPACING = "--model.scheduler_options={timestep_spacing: trailing}"
OTHER_STEPS = ("--model.num_inversion_steps=5", SPACING)
PROMPT = "a cat on a sofa"


@pytest.fixture(scope="module")
def diffusers_pipeline(tiny_sd: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_sd).to(torch.float64)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_it_is_the_inversion_of_one_pipeline_sampled_by_diffusers(
    guidance_scale: float, diffusers_pipeline: StableDiffusionPipeline, image: torch.Tensor
) -> None:
    arguments: dict[str, Any] = {"guidance_scale": guidance_scale, "scheduler_options": TRAILING}
    pipeline = renoise.load(diffusers_pipeline, num_inference_steps=3, num_inversion_steps=7, **arguments)
    alone = renoise.load(diffusers_pipeline, num_inference_steps=7, **arguments)
    inverted, expected = (each.invert(image, PROMPT).inversion for each in (pipeline, alone))
    assert inverted.latents.dtype == torch.float64
    assert torch.equal(inverted.latents, expected.latents)
    assert inverted.residual is not None
    assert expected.residual is not None
    assert torch.equal(inverted.residual, expected.residual)
    assert inverted.nfe.tolist() == expected.nfe.tolist() == [14 * (1 if guidance_scale == 1 else 2)]
    assert (inverted.num_inversion_steps, len(inverted.schedule), expected.num_inversion_steps) == (7, 3, None)

    scheduler = diffusers_pipeline.scheduler
    diffusers_pipeline.scheduler = type(scheduler).from_config(scheduler.config, **TRAILING)
    sampled = diffusers_pipeline(
        PROMPT,
        32,
        32,
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        latents=expected.latents,
        output_type="latent",
    ).images
    diffusers_pipeline.scheduler = scheduler
    torch.testing.assert_close(renoise.sample(pipeline.model, inverted), sampled, rtol=0, atol=1e-6)


def test_the_sampler_s_own_number_is_the_same_as_none(tiny_sd: Path, image: torch.Tensor) -> None:
    pipeline = renoise.load(tiny_sd, num_inference_steps=2, num_inversion_steps=2, inversion=renoise.DirectInversion())
    default = renoise.load(tiny_sd, num_inference_steps=2, inversion=renoise.DirectInversion())
    assert pipeline.settings == default.settings
    inverted = pipeline.invert(image.float(), PROMPT, keep_trajectory=True)
    assert inverted.inversion.num_inversion_steps is None
    assert inverted.edit("a dog", strength=0.5)[0].size == (32, 32)


def test_a_preset_can_have_it_and_an_argument_wins(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "model: {num_inference_steps: 2, num_inversion_steps: 6, scheduler_options: {timestep_spacing: trailing}}"
    )
    own = str(tmp_path / "own.yaml")
    assert renoise.load(tiny_sd, preset=own).num_inversion_steps == 6
    assert renoise.load(tiny_sd, preset=own, num_inversion_steps=4).num_inversion_steps == 4
    assert renoise.load(tiny_sd, preset=own, num_inversion_steps=2).num_inversion_steps is None


def test_levels_that_differ_are_told_once(tiny_sd: Path, image: torch.Tensor) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        pipeline = renoise.load(tiny_sd, num_inference_steps=2, num_inversion_steps=4)
        pipeline.invert(image.float()).reconstruct()
    assert [str(warning.message) for warning in caught if warning.category is InputWarning] == [
        "num_inversion_steps: the inversion ends at timestep 751, and the sampler starts at timestep 501, so it takes "
        "z_T for latents of another noise level; with scheduler_options.timestep_spacing trailing they are the same"
    ]


METHODS = {
    "DirectInversion": renoise.DirectInversion(),
    "Noising": renoise.Noising(),
    "EDICT": renoise.EDICT(),
    "OBELM": renoise.OBELM(),
    "NullTextInversion": renoise.NullTextInversion(),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_keeps_more_than_z_t_is_refused(
    name: str, diffusers_pipeline: StableDiffusionPipeline, image: torch.Tensor
) -> None:
    arguments: dict[str, Any] = {
        "num_inference_steps": 2,
        "num_inversion_steps": 4,
        "guidance_scale": 2.0 if name == "NullTextInversion" else 1.0,
        "scheduler_options": TRAILING,
    }
    message = rf"^inversion: {name} needs an inversion in the sampler's own steps, so num_inversion_steps must be null"
    with pytest.raises(InputError, match=message + r" or 2 \(num_inference_steps\), got 4$"):
        renoise.load(diffusers_pipeline, inversion=METHODS[name], **arguments)
    with pytest.raises(InputError, match=message):
        renoise.load(diffusers_pipeline, **arguments).invert(image, inversion=METHODS[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inversion_steps": 0}, r"^num_inversion_steps must be in \[1, 1000\], got 0$"),
        ({"num_inversion_steps": 1001}, r"^num_inversion_steps must be in \[1, 1000\], got 1001$"),
        ({"eta": 0.5}, r"^num_inversion_steps must be null or 2 \(num_inference_steps\) with a sampler that draws"),
        (
            {"scheduler": "LCMScheduler"},
            r"^num_inversion_steps must be null or 2 .*got 4; take DDIMScheduler",
        ),
        ({"inversion": renoise.ReNoise(max_nfe=3)}, r"^inversion: max_nfe must be at least 4 for 4 steps"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_image_is_read(
    arguments: dict[str, Any], message: str, diffusers_pipeline: StableDiffusionPipeline
) -> None:
    with pytest.raises(InputError, match=message):
        renoise.load(diffusers_pipeline, **{"num_inference_steps": 2, "num_inversion_steps": 4, **arguments})


def test_a_trajectory_in_the_inversion_s_steps_is_refused(
    diffusers_pipeline: StableDiffusionPipeline, image: torch.Tensor
) -> None:
    pipeline = renoise.load(
        diffusers_pipeline, num_inference_steps=2, num_inversion_steps=4, scheduler_options=TRAILING
    )
    with pytest.raises(InputError, match=r"^keep_trajectory needs .*num_inversion_steps must be null or 2 .*, got 4$"):
        pipeline.invert(Path("is/not/read.png"), keep_trajectory=True)
    inverted = pipeline.invert(image, PROMPT)
    assert inverted.edit("a dog on a sofa", guidance_scale=2.0)[0].size == (32, 32)
    with pytest.raises(InputError, match=r"^PromptEditor with strength 0\.5 needs .*num_inversion_steps must be null"):
        inverted.edit("a dog on a sofa", strength=0.5)


def test_a_saved_inversion_reconstructs_the_same_and_says_its_steps(tiny_sd: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"num_inference_steps": 2, "scheduler_options": TRAILING}
    pipeline = renoise.load(tiny_sd, num_inversion_steps=5, **arguments)
    saved = pipeline.invert(torch.rand(3, 32, 32), PROMPT)
    latents = saved.inversion.latents.contiguous()  # convolutions round by memory format
    expected = renoise.sample(pipeline.model, replace(saved.inversion, latents=latents))
    file, again = tmp_path / "cat.safetensors", tmp_path / "again.safetensors"
    saved.save(file)
    for given in (None, pipeline, renoise.load(tiny_sd, **arguments)):
        loaded = renoise.load_inversion(file, given)
        assert loaded.inversion.num_inversion_steps == loaded.settings["num_inversion_steps"] == 5
        assert torch.equal(loaded.inversion.latents, latents)
        assert torch.equal(renoise.sample(loaded.model, loaded.inversion), expected)
        loaded.save(again)
        assert renoise.load_inversion(again).settings["num_inversion_steps"] == 5
    with pytest.raises(InputError, match=r"the inversion is sampled with DDIMScheduler, 2 steps .* with 5 steps"):
        renoise.load_inversion(file, renoise.load(tiny_sd, num_inference_steps=5, scheduler_options=TRAILING))


def test_a_run_counts_the_inversion_s_calls_and_reconstructs_in_the_sampler_s_steps(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png", "b.png"), tmp_path / "out"
    editor = "--model.editors=[{class_path: PromptSwap, init_args: {replace: {cat: dog}}}]"
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat"}')
    run = predict(root, out, editor, *OTHER_STEPS)
    assert (run.status, run.warnings) == (0, [])
    by_name = {row["file_name"]: row for row in Manifest(out).read()}
    assert {row["nfe"] for row in by_name.values()} == {5}
    assert by_name["a.png"]["edits"] == {"PromptSwap": "ok"}
    assert json.loads((out / "settings.json").read_text())["model"]["num_inversion_steps"] == 5
    assert predict(root, tmp_path / "five", "--model.num_inference_steps=5", SPACING).status == 0
    latents = [load_file(folder / "inversions/a.png.safetensors")["latent"] for folder in (out, tmp_path / "five")]
    assert torch.equal(*latents)
    (rebuilt,) = renoise.load_inversion(out / "inversions/a.png.safetensors").reconstruct()
    written = np.asarray(Image.open(out / "reconstructions/a.png.png"), dtype=float)
    assert np.abs(np.asarray(rebuilt, dtype=float) - written).max() <= 1


def test_a_run_continues_with_the_same_number_and_not_with_another(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    assert predict(root, out, *OTHER_STEPS).status == 0
    monkeypatch.setattr(ReNoise, "invert", lambda *_: pytest.fail("an image was inverted"))
    assert predict(root, out, *OTHER_STEPS).status == 0
    for steps in ("6", "null"):
        run = predict(root, out, f"--model.num_inversion_steps={steps}", SPACING)
        assert run.status == 2
        assert "num_inversion_steps" in run.err


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (
            ["--model.editors=[{class_path: PromptSwap, init_args: {replace: {a: b}, strength: 0.5}}]"],
            "model.editors: PromptSwap with strength 0.5 needs an inversion in the sampler's own steps, so "
            "num_inversion_steps must be null or 2 (num_inference_steps), got 5",
        ),
        (["--model.editors=[{class_path: NullText, init_args: {replace: {a: b}}}]"], "model.editors: NullText needs"),
        (["--model.inversion=EDICT"], "model.inversion: EDICT needs an inversion in the sampler's own steps"),
        (["--model.eta=1"], "model.num_inversion_steps must be null or 2 (num_inference_steps) with a sampler that"),
        (["--model.num_inversion_steps=0"], "model.num_inversion_steps must be in [1, 1000], got 0"),
    ],
)
def test_a_run_that_cannot_have_it_is_one_line(
    options: list[str], phrase: str, tmp_path: Path, pictures: Pictures, run_cli: Callable[..., Any], tiny_sd: Path
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    settings = [f"--model.checkpoint={tiny_sd}", "--model.num_inference_steps=2", f"--data.root={root}"]
    run = run_cli("predict", *settings, f"--trainer.default_root_dir={tmp_path / 'out'}", *OTHER_STEPS, *options)
    assert run.status == 2
    assert phrase in run.err
    assert run.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
