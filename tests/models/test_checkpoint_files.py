from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.pipelines.pipeline_loading_utils import variant_compatible_siblings

from renoise.errors import InputError
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3438167540\n".format("0" * 64)
WEIGHTS = ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_sd: Path) -> Path:
    """A copy of the shipped model, to be changed. Its weights are links."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "checkpoint", copy_function=link))


def link(source: str, target: str) -> str:
    (os.link if source.endswith(".safetensors") else shutil.copy)(source, target)
    return target


def replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


def edit_index(checkpoint: Path, **entries: object) -> None:
    path = checkpoint / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def assert_same_weights(found: DiffusionModel, folder: Path) -> None:
    expected = dict(load_model(str(folder)).named_parameters())
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


# Folders that work


@pytest.mark.parametrize("variant", ["fp16", "ema"])
@pytest.mark.parametrize("parts", [WEIGHTS, WEIGHTS[:1]], ids=["every part", "one part"])
def test_the_variant_of_the_weights_that_is_there_is_loaded(
    parts: list[str], variant: str, checkpoint: Path, tiny_sd: Path
) -> None:
    for part in parts:
        (checkpoint / f"{part}.safetensors").rename(checkpoint / f"{part}.{variant}.safetensors")
    assert_same_weights(load_model(str(checkpoint)), tiny_sd)


def test_plain_weights_are_preferred_to_a_variant(checkpoint: Path, tiny_sd: Path) -> None:
    replace(checkpoint / "unet/diffusion_pytorch_model.fp16.safetensors", "anything")
    assert_same_weights(load_model(str(checkpoint)), tiny_sd)


def test_weights_in_half_precision_are_preferred_by_a_model_in_half_precision(checkpoint: Path, tiny_sd: Path) -> None:
    unet = checkpoint / "unet/diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".fp16.safetensors"))
    replace(unet, "anything")
    for dtype in (torch.float16, torch.bfloat16):
        assert load_model(str(checkpoint), dtype=dtype).dtype == dtype
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors"):
        load_model(str(checkpoint))
    assert load_model(str(tiny_sd), dtype=torch.float16).dtype == torch.float16, "there are plain weights only"


def test_weights_in_shards_are_loaded_also_of_a_variant(checkpoint: Path, tiny_sd: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    (checkpoint / "unet/diffusion_pytorch_model.safetensors").unlink()
    pipeline.unet.save_pretrained(checkpoint / "unet", max_shard_size="3MB", variant="fp16")
    assert len(list((checkpoint / "unet").glob("*.fp16-*.safetensors"))) > 1
    assert_same_weights(load_model(str(checkpoint)), tiny_sd)


@pytest.mark.parametrize("junk", ["._config.json", "._diffusion_pytorch_model.safetensors", ".DS_Store"])
def test_hidden_files_are_ignored(junk: str, checkpoint: Path, tiny_sd: Path) -> None:
    for part in ("unet", "vae", "scheduler", "tokenizer", "text_encoder"):
        (checkpoint / part / junk).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    assert_same_weights(load_model(str(checkpoint)), tiny_sd)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "diffusion_pytorch_model.non_ema.safetensors", "model.onnx"])
def test_a_git_lfs_pointer_beside_whole_weights_is_ignored(name: str, checkpoint: Path, tiny_sd: Path) -> None:
    for part in ("unet", "text_encoder"):
        replace(checkpoint / part / name, POINTER)
    assert_same_weights(load_model(str(checkpoint)), tiny_sd)


def test_whole_weights_of_a_variant_are_loaded_where_the_plain_ones_are_pointers(
    checkpoint: Path, tiny_sd: Path
) -> None:
    path = checkpoint / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".fp16.safetensors"))
    replace(path, POINTER)
    assert_same_weights(load_model(str(checkpoint)), tiny_sd)


def test_the_safety_checker_may_be_absent_and_nothing_is_said_about_it(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    edit_index(
        checkpoint,
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=True,
    )
    model = load_model(str(checkpoint))
    assert model.pipeline.safety_checker is None
    assert "safety" not in caplog.text + capfd.readouterr().err
    assert model.pipeline.config["_name_or_path"] == str(checkpoint)


# Folders that are refused


def bin_only(checkpoint: Path) -> None:
    (checkpoint / "unet/diffusion_pytorch_model.safetensors").unlink()
    (checkpoint / "unet/diffusion_pytorch_model.bin").write_bytes(b"PK")


def another_name(checkpoint: Path) -> None:
    path = checkpoint / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("unet.safetensors"))


def extension_missing(checkpoint: Path) -> None:
    path = checkpoint / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".fp16.safetensors"))
    (checkpoint / "unet/LICENSE").write_text("text")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda checkpoint: replace(checkpoint / "unet/diffusion_pytorch_model.safetensors", POINTER),
            r"the part unet has a damaged diffusion_pytorch_model.safetensors \(it is a Git-LFS pointer; run `git",
        ),
        (
            lambda checkpoint: replace(checkpoint / "tokenizer/tokenizer.json", POINTER),
            r"the part tokenizer has a damaged tokenizer.json \(it is a Git-LFS pointer; run `git lfs pull`",
        ),
        (lambda checkpoint: replace(checkpoint / "model_index.json", "5"), "model_index.json is not a JSON object"),
        (
            lambda checkpoint: replace(checkpoint / "unet/config.json", "[]"),
            r"the part unet has a damaged config.json \(it is not a JSON object\)",
        ),
        (bin_only, r"the part unet has its weights as diffusion_pytorch_model.bin, and only .* convert them once: "),
        (another_name, r"the part unet has no weights \(diffusion.*\); unet.safetensors has another name"),
        (extension_missing, r"the part unet contains LICENSE, .* move it elsewhere"),
        (
            lambda checkpoint: edit_index(checkpoint, text_encoder=[None, None], tokenizer=[None, None]),
            r"the part text_encoder is null in model_index.json, .*; the part tokenizer is null",
        ),
    ],
    ids=["pointer", "pointer of a vocabulary", "index", "config", "bin", "another name", "no extension", "null"],
)
def test_a_folder_without_usable_files_is_refused_with_what_to_do(
    change: Callable[[Path], None], message: str, checkpoint: Path
) -> None:
    change(checkpoint)
    with pytest.raises(InputError, match=rf"^checkpoint: {checkpoint}: {message}"):
        load_model(str(checkpoint))


# The hub


def test_a_repository_without_weights_in_float16_is_downloaded_in_float32_for_a_model_in_half_precision(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, variant: str | None = None, **_: object) -> str:
        names = {f"{part}.safetensors" for part in WEIGHTS}
        variant_compatible_siblings(names, variant=variant)  # as diffusers' own method, which raises in here
        return str(checkpoint)

    index = DiffusionPipeline.load_config(checkpoint)
    monkeypatch.setattr("renoise.models.loading.check_hub", lambda *_: False)
    monkeypatch.setattr(DiffusionPipeline, "load_config", lambda *_, **__: index)
    monkeypatch.setattr(DiffusionPipeline, "download", download)
    assert load_model("someone/model", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_repository_with_weights_in_float16_alone_is_downloaded_as_such(
    checkpoint: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in WEIGHTS:
        (checkpoint / f"{part}.safetensors").rename(checkpoint / f"{part}.fp16.safetensors")

    def download(name: str, variant: str | None = None, **_: object) -> str:
        if variant is None:
            raise OSError("Could not find the necessary `safetensors` weights in {…} (variant=None)")
        assert (name, variant) == ("someone/model", "fp16")
        return str(checkpoint)

    index = DiffusionPipeline.load_config(checkpoint)
    monkeypatch.setattr("renoise.models.loading.check_hub", lambda *_: False)
    monkeypatch.setattr(DiffusionPipeline, "load_config", lambda *_, **__: index)
    monkeypatch.setattr(DiffusionPipeline, "download", download)
    model = load_model("someone/model")
    assert_same_weights(model, tiny_sd)
    assert model.pipeline.config["_name_or_path"] == "someone/model"
