from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import renoise
from renoise.errors import InputError
from renoise.outputs.inversion_file import read_inversion, save_inversion

METHODS = {
    "deterministic": {"inversion": renoise.ReNoise(2)},
    "other steps": {"num_inversion_steps": 3, "scheduler_options": {"timestep_spacing": "trailing"}},
    "stochastic": {"inversion": renoise.ReNoise(1, noise_correction=renoise.NoiseCorrection()), "eta": 1.0},
    "direct": {"inversion": renoise.DirectInversion()},
    "null-text": {"inversion": renoise.NullTextInversion(), "guidance_scale": 2.0},
    "exact": {"inversion": renoise.EDICT(mixing=0.9), "guidance_scale": 3.0},
}


def assert_same(pipeline: renoise.InversionPipeline, saved: renoise.Inversion, loaded: renoise.Inversion) -> None:
    """Checks that a file keeps every bit of an inversion, and that both sample the same latents."""
    assert torch.equal(loaded.conditioning.prompt_embeds, saved.conditioning.prompt_embeds)
    assert loaded.follows_trajectory == saved.follows_trajectory
    tensors: dict[str, Any] = {}
    assert type(loaded.sampler) is type(saved.sampler)
    for name in ("latents", "noise", "trajectory", "null_embeddings", "companion"):
        before, after = getattr(saved, name), getattr(loaded, name)
        assert (before is None) == (after is None)
        assert before is None or torch.equal(after, before)
        tensors[name] = None if before is None else before.contiguous()  # convolutions round by memory format
    before, after = (renoise.sample(pipeline.model, each) for each in (replace(saved, **tensors), loaded))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("arguments", METHODS.values(), ids=METHODS)
def test_an_inversion_is_the_same_after_it_was_saved_and_loaded(
    arguments: dict[str, Any], tiny_sd: Path, tmp_path: Path
) -> None:
    pipeline = renoise.load(tiny_sd, num_inference_steps=2, **arguments)
    saved = pipeline.invert(torch.rand(3, 32, 32), "a cat")
    saved.save(tmp_path / "cat.safetensors")
    for loaded in (
        renoise.load_inversion(tmp_path / "cat.safetensors"),
        renoise.load_inversion(tmp_path / "cat.safetensors", pipeline),
    ):
        assert (loaded.names, loaded.prompts) == (saved.names, saved.prompts)
        assert_same(pipeline, saved.inversion, loaded.inversion)
        assert loaded.edit("a dog")[0].size == (32, 32)


@pytest.mark.filterwarnings("ignore:.*The configuration file of this scheduler:FutureWarning")
def test_a_scheduler_that_diffusers_corrected_is_the_same_after_loading(tiny_sd: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sd, tmp_path / "old")
    (tmp_path / "old/scheduler/scheduler_config.json").write_text(
        json.dumps({"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012})
    )  # without steps_offset, as checkpoints of 2022
    pipeline = renoise.load(tmp_path / "old", num_inference_steps=2)
    pipeline.invert(torch.rand(3, 32, 32), "a cat").save(tmp_path / "cat.safetensors")
    loaded = renoise.load_inversion(tmp_path / "cat.safetensors").inversion.schedule
    assert [step.timestep for step in pipeline.schedule] == [501, 1]
    assert loaded == pipeline.schedule


def test_every_image_of_a_saved_folder_can_be_loaded(tmp_path: Path, tiny_sd: Path) -> None:
    pipeline = renoise.load(tiny_sd, scheduler="LCMScheduler", num_inference_steps=2)
    saved = pipeline.invert(torch.rand(2, 3, 32, 32), ["a cat", "a fox"], keep_trajectory=True)
    saved.save(tmp_path / "both")
    for index, (name, prompt) in enumerate(zip(saved.names, saved.prompts, strict=True)):
        loaded = renoise.load_inversion(tmp_path / f"both/{name}.safetensors", pipeline)
        assert (loaded.names, loaded.prompts) == ([name], [prompt])
        assert loaded.inversion.noise is not None
        assert loaded.inversion.trajectory is not None
        assert_same(pipeline, saved.inversion.select([index]), loaded.inversion)


def test_an_exact_inversion_stays_exact_when_it_is_loaded_for_another_method_and_saved_again(
    tiny_sd: Path, tmp_path: Path
) -> None:
    pipeline = renoise.load(tiny_sd, num_inference_steps=4, guidance_scale=3.0)
    image = torch.rand(3, 32, 32)
    pipeline.invert(image, "a cat", inversion=renoise.BDIA(gamma=0.95)).save(tmp_path / "first.safetensors")
    renoise.load_inversion(tmp_path / "first.safetensors", pipeline).save(tmp_path / "second.safetensors")
    loaded = renoise.load_inversion(tmp_path / "second.safetensors", pipeline)
    assert isinstance(loaded.inversion.sampler, renoise.BDIA)
    assert loaded.inversion.sampler.gamma == 0.95
    with torch.no_grad():
        latents = pipeline.model.encode_images(image[None])
    torch.testing.assert_close(renoise.sample(pipeline.model, loaded.inversion), latents.double(), rtol=0, atol=1e-10)


def test_a_pipeline_with_other_steps_is_refused(tmp_path: Path, tiny_sd: Path) -> None:
    pipeline = renoise.load(tiny_sd, num_inference_steps=2)
    pipeline.invert(torch.rand(3, 32, 32), "a cat").save(tmp_path / "cat.safetensors")
    others: list[dict[str, Any]] = [
        {"num_inference_steps": 3},
        {"num_inference_steps": 2, "eta": 0.5},
        {"num_inference_steps": 2, "scheduler": "EulerDiscreteScheduler"},
        {"num_inference_steps": 2, "scheduler_options": {"timestep_spacing": "trailing"}},
    ]
    for arguments in others:
        other = renoise.load(pipeline.model.pipeline, **arguments)
        assert other.schedule != pipeline.schedule
        with pytest.raises(InputError, match=r"^path: .*cat\.safetensors: the inversion is sampled with D.*, 2 st"):
            renoise.load_inversion(tmp_path / "cat.safetensors", other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "no/such/folder/here"}, r"checkpoint: no/such/folder/here: no such file or folder here"),
        ({"scheduler": {"class_name": "Magic"}}, r"diffusers has no 'Magic'; give the pipeline"),
        ({"inversion": {"class_path": "Magic"}}, r"Magic"),
    ],
)
def test_a_file_whose_pipeline_cannot_be_loaded_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path, tiny_sd: Path
) -> None:
    renoise.load(tiny_sd, num_inference_steps=2).invert(torch.rand(3, 32, 32)).save(tmp_path / "x.safetensors")
    tensors, metadata = read_inversion((tmp_path / "x.safetensors").read_bytes())
    (tmp_path / "x.safetensors").write_bytes(save_inversion(tensors, metadata | changes))
    with pytest.raises(InputError, match=r"^path: .*x\.safetensors: .*" + message):
        renoise.load_inversion(tmp_path / "x.safetensors")


def test_a_file_of_a_run_can_be_loaded(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    assert predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out").status == 0
    (rebuilt,) = renoise.load_inversion(tmp_path / "out/inversions/a.png.safetensors").reconstruct()
    written = np.asarray(Image.open(tmp_path / "out/reconstructions/a.png.png"), dtype=float)
    assert np.abs(np.asarray(rebuilt, dtype=float) - written).max() <= 1


def test_a_file_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^path: .*none\.safetensors cannot be read: No such file"):
        renoise.load_inversion(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"^path: .*damaged\.safetensors is damaged"):
        renoise.load_inversion(tmp_path / "damaged.safetensors")
    save_file({"latent": torch.zeros(4, 8, 8)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors does not say its checkpoint"):
        renoise.load_inversion(tmp_path / "other.safetensors")
