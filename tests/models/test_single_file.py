from __future__ import annotations

import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from renoise.errors import InputError
from renoise.models import single_file
from renoise.models.loading import load_model
from tests.helpers.single_file import write_single_file


@pytest.fixture(scope="module")
def checkpoint(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-sd as one file."""
    path = tmp_path_factory.mktemp("single") / "dreamy_v8.safetensors"
    write_single_file(StableDiffusionPipeline.from_pretrained(tiny_sd, dtype=torch.float32), path)
    return path


@pytest.fixture(scope="module")
def configured(checkpoint: Path, tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a folder with the configuration of the model."""
    folder = tmp_path_factory.mktemp("configured")
    shutil.copytree(tiny_sd, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    return Path(shutil.copy(checkpoint, folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_single_file_beside_its_configuration_gives_the_same_model(
    dtype: torch.dtype, configured: Path, tiny_sd: Path
) -> None:
    model, expected = load_model(str(configured), dtype=dtype), load_model(str(tiny_sd), dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert model.pipeline.config["_name_or_path"] == str(configured)
    found = dict(model.named_parameters())
    for name, weight in expected.named_parameters():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=0)
    assert dict(model.scheduler.config) == dict(expected.scheduler.config)


def test_a_single_file_takes_another_autoencoder(configured: Path, tiny_sdxl: Path) -> None:
    model = load_model(str(configured), vae=str(tiny_sdxl / "vae"))
    expected = dict(load_model(str(tiny_sdxl)).vae.named_parameters())
    for name, weight in model.vae.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def test_without_a_configuration_it_is_that_of_the_model_that_the_file_derives_from(
    checkpoint: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert single_file.find_config(checkpoint) == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    with pytest.raises(
        InputError, match=rf"^checkpoint: {checkpoint} cannot be loaded: .* Put the file into a folder with"
    ):
        load_model(str(checkpoint))
    monkeypatch.setattr(single_file, "fetch_diffusers_config", lambda _: {"pretrained_model_name_or_path": tiny_sd})
    assert load_model(str(checkpoint)).latent_channels == 4


def test_a_file_that_lacks_weights_is_refused(configured: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(configured.parent, folder)
    weights = load_file(configured)
    del weights["cond_stage_model.transformer.text_model.final_layer_norm.weight"]
    save_file(weights, folder / configured.name)
    with pytest.raises(InputError, match=rf"^checkpoint: {folder / configured.name} .*text_encoder"):
        load_model(str(folder / configured.name))


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
def test_a_pickle_is_refused_with_how_to_convert_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was read"))
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=rf"^checkpoint: \S+{name} is not a .safetensors file.* convert it once: diff"):
        load_model(str(tmp_path / name))
    assert hasattr(diffusers.StableDiffusionPipeline, "from_single_file"), "what the message advises"


def test_a_lora_or_a_damaged_file_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    lora = tiny_sd.parent / "tiny-lcm-lora/pytorch_lora_weights.safetensors"
    with pytest.raises(InputError, match=rf"^checkpoint: {lora} is not a whole checkpoint: .* Give a LoRA as lora"):
        load_model(str(lora))
    (tmp_path / "half.safetensors").write_bytes(lora.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"^checkpoint: \S+half\.safetensors cannot be read, the file is damaged"):
        load_model(str(tmp_path / "half.safetensors"))
