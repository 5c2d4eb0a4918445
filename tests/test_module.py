from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from renoise.cli import main
from renoise.data import CaptionerConfig, ImageBatch, ImageFolderDataModule, ImageRecord
from renoise.editing.base import Editor, EditRequest
from renoise.errors import InputError, InputWarning
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.renoise import ReNoise
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.models.sdxl import StableDiffusionXL
from renoise.module import ReNoiseModule
from renoise.outputs.manifest import Manifest
from tiny_models.data import to_pixels
from tiny_models.scenes import random_scenes

SCENES = random_scenes(3, seed=31)


def batch() -> ImageBatch:
    images = to_pixels(scene.draw() for scene in SCENES).float() / 255
    records = [
        ImageRecord(f"{number}.png", Path(f"{number}.png"), scene.caption, None, {"license": "CC0"})
        for number, scene in enumerate(SCENES)
    ]
    time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(len(SCENES), 6)
    return ImageBatch(images, records, ["00"] * len(SCENES), time_ids, [])


class Inverted(Editor):
    """Inverts the colors of the reconstruction, and refuses one image."""

    def __init__(self, refused: str = "", value: float = 0.0) -> None:
        self.refused, self.value = refused, value
        self.seen: list[str] = []

    def refusal(self, request: EditRequest) -> str | None:
        return "not this one" if request.file_name == self.refused else None

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        self.seen += [request.file_name for request in requests]
        assert len(inversion.latents) == len(inversion.conditioning.prompt_embeds) == len(requests)
        return 1 - model.decode_latents(inversion.latents) + self.value


def module(tiny_sd: Path, *editors: Editor, inversion: Inverter | None = None) -> ReNoiseModule:
    made = ReNoiseModule(str(tiny_sd), num_inference_steps=2, inversion=inversion, editors=editors)
    made.configure_model()
    return made


@torch.no_grad()
def test_every_image_has_a_row_with_measurements_and_the_columns_of_its_metadata(tiny_sd: Path) -> None:
    results = module(tiny_sd).predict_step(batch(), 0)
    assert [result.row["file_name"] for result in results] == ["0.png", "1.png", "2.png"]
    for result in results:
        assert result.row["license"] == "CC0"
        assert result.row["status"] == "ok"
        assert result.row["nfe"] == 4
        assert result.row["psnr"] < result.row["psnr_vae"]
        assert result.row["seconds"] > 0
        assert result.metadata["prompt"] == result.row["prompt"]


@torch.no_grad()
def test_editors_get_the_images_they_accept_and_each_has_its_own_column(tiny_sd: Path) -> None:
    first, second = Inverted(refused="1.png"), Inverted()
    results = module(tiny_sd, first, second).predict_step(batch(), 0)
    assert first.seen == ["0.png", "2.png"]
    assert second.seen == ["0.png", "1.png", "2.png"]
    assert [result.row["edits"]["Inverted"] for result in results] == ["ok", "not this one", "ok"]
    assert [list(result.edits) for result in results] == [
        ["Inverted", "Inverted-2"],
        ["Inverted-2"],
        ["Inverted", "Inverted-2"],
    ]


class Faulty(ReNoise):
    """Raises for batches with image 1, or returns latents of the wrong shape for it."""

    def __init__(self, raises: bool) -> None:
        super().__init__()
        self.raises = raises

    def invert(self, *arguments: Any, **options: Any) -> Inversion:
        inversion = super().invert(*arguments, **options)
        if "1.png" in arguments[4].names:
            if self.raises:
                raise IndexError("mine")
            inversion.latents = inversion.latents[..., :1]
        return inversion


@pytest.mark.parametrize(
    ("raises", "error"),
    [(True, "IndexError: mine"), (False, "ValueError: Faulty must return latents of shape [1, 4, 16, 16], got")],
    ids=["raises", "shape"],
)
@torch.no_grad()
def test_an_inversion_method_that_fails_for_one_image_does_not_stop_the_others(
    raises: bool, error: str, tiny_sd: Path
) -> None:
    results = module(tiny_sd, inversion=Faulty(raises)).predict_step(batch(), 0)
    rows = {result.row["file_name"]: result.row for result in results}
    assert {name: row["status"] for name, row in rows.items()} == {"0.png": "ok", "1.png": "failed", "2.png": "ok"}
    assert rows["1.png"]["error"].startswith(error)


class TooLarge(ReNoise):
    """Runs out of memory with more than one image at once, or always with image 2."""

    sizes: list[int]

    def invert(self, *arguments: Any, **options: Any) -> Inversion:
        names = arguments[4].names
        self.sizes.append(len(names))
        if len(names) > 1 or "2.png" in names:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().invert(*arguments, **options)


@torch.no_grad()
def test_a_batch_that_is_too_large_for_the_memory_is_done_in_halves_with_the_results_of_a_smaller_one(
    tiny_sd: Path,
) -> None:
    method = TooLarge(iterations=0)
    method.sizes = []
    with pytest.warns(InputWarning, match=r"out of memory with 3 images at once; .* set data\.batch_size to 1"):
        results = {
            result.row["file_name"]: result for result in module(tiny_sd, inversion=method).predict_step(batch(), 0)
        }
    assert method.sizes == [3, 2, 1, 1, 1]
    error = results["2.png"].row["error"]
    assert error.startswith("out of memory with a batch of 1; lower data.resolution, ")
    assert "Tried to allocate 20.00 GiB" in error
    alone = module(tiny_sd, inversion=ReNoise(iterations=0))
    for position in range(2):
        (expected,) = alone.predict_step(batch().select([position]), 0)
        assert torch.equal(results[f"{position}.png"].tensors["latent"], expected.tensors["latent"])


@torch.no_grad()
def test_a_network_that_raises_anywhere_fails_only_its_image(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = module(tiny_sd)
    encode, third = made.model.encode_images, batch().images[2]

    def fails(images: torch.Tensor) -> torch.Tensor:
        if any(torch.equal(image, third) for image in images):
            raise RuntimeError("no kernel\nfor this")
        return encode(images)

    monkeypatch.setattr(made.model, "encode_images", fails)
    rows = {result.row["file_name"]: result.row for result in made.predict_step(batch(), 0)}
    assert {name: row["status"] for name, row in rows.items()} == {"0.png": "ok", "1.png": "ok", "2.png": "failed"}
    assert rows["2.png"]["error"].startswith("RuntimeError: no kernel for this (test_module.py:")


@torch.no_grad()
def test_a_device_that_is_broken_ends_the_run(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    made = module(tiny_sd, Inverted())
    monkeypatch.setattr(Inverted, "edit", fails)
    with pytest.raises(InputError, match="the device failed, so the run ends here; finished images are kept: CUDA err"):
        made.predict_step(batch(), 0)


@torch.no_grad()
def test_an_edit_that_is_not_finite_is_not_saved(tiny_sd: Path) -> None:
    results = module(tiny_sd, Inverted(value=float("nan"))).predict_step(batch(), 0)
    assert all(not result.edits and "NaN" in result.row["edits"]["Inverted"] for result in results)


@torch.no_grad()
def test_an_autoencoder_that_gives_nan_fails_the_image(tiny_sd: Path) -> None:
    made = module(tiny_sd)
    decoder: nn.Module = made.model.pipeline.vae.decoder

    def spoil_the_third(_: nn.Module, __: object, images: torch.Tensor) -> torch.Tensor:
        return images.index_fill(0, torch.tensor([2]), torch.nan) if len(images) == 3 else images

    decoder.register_forward_hook(spoil_the_third)
    results = {result.row["file_name"]: result.row for result in made.predict_step(batch(), 0)}
    assert results["2.png"]["status"] == "failed"
    assert "autoencoder" in results["2.png"]["error"]
    assert results["0.png"]["status"] == results["1.png"]["status"] == "ok"


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_networks_run_in_other_precisions_and_metrics_stay_exact(
    precision: str, tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[torch.dtype] = []
    configure_model = ReNoiseModule.configure_model

    def configured(module: ReNoiseModule) -> None:
        configure_model(module)
        loaded.append(module.model.dtype)

    monkeypatch.setattr(ReNoiseModule, "configure_model", configured)
    root = tmp_path / "scenes"
    root.mkdir()
    SCENES[0].draw().save(root / "scene.png")
    options = {
        "--model.checkpoint": tiny_sd,
        "--model.num_inference_steps": 2,
        "--model.scheduler": "LCMScheduler",
        "--data.root": root,
        "--data.resolution": 64,
        "--data.prompt": SCENES[0].caption,
        "--trainer.default_root_dir": tmp_path / "out",
        "--trainer.precision": precision,
    }
    main(["predict", *(f"{name}={value}" for name, value in options.items())])
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    assert row["status"] == "ok"
    assert row["psnr_vae"] > 25
    types = {"bf16-true": torch.bfloat16, "64-true": torch.float64, "bf16-mixed": torch.float32}
    assert set(loaded) == {types[precision]}, "the weights are read in the type that they run in"


def test_sdxl_is_conditioned_on_the_true_sizes_of_images_in_edits_too(
    tiny_sdxl: Path, tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wide picture and a tall one, in one batch, cut to 32 pixels."""
    root = tmp_path / "photos"
    root.mkdir()
    for name, size in (("a-wide.png", (96, 64)), ("b-tall.png", (40, 50))):
        Image.new("RGB", size, "teal").save(root / name)
    (root / "metadata.jsonl").write_text('{"file_name": "b-tall.png", "text": "a cat", "edit_text": "a dog"}')
    told: list[list[list[float]]] = []
    encode = StableDiffusionXL.encode_prompts

    def listening(self: StableDiffusionXL, *arguments: Any, **options: Any) -> Conditioning:
        conditioning = encode(self, *arguments, **options)
        assert conditioning.time_ids is not None
        told.append(conditioning.time_ids.tolist())
        return conditioning

    monkeypatch.setattr(StableDiffusionXL, "encode_prompts", listening)
    options = {
        "model.checkpoint": tiny_sdxl,
        "model.num_inference_steps": 1,
        "model.editors": "[{class_path: PromptSwap}]",
        "data.root": root,
        "data.resolution": 32,
        "trainer.default_root_dir": tmp_path / "out",
        "trainer.accelerator": "cpu",
    }
    run = run_cli("predict", *(f"--{name}={value}" for name, value in options.items()))
    assert run.status == 0, run.err
    wide, tall = [64, 96, 0, 8, 32, 32], [50, 40, 4, 0, 32, 32]
    assert told[-2:] == [[wide, tall], [tall]]


def test_a_trainer_without_the_writer_prefetches_captions_and_buckets_as_the_command_does(
    tmp_path: Path,
    tiny_sd: Path,
    tiny_blip2: Path,
    predict: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, out = tmp_path / "photos", tmp_path / "out"
    root.mkdir()
    sizes = {"square.png": (64, 64), "tall.png": (64, 128), "wide.png": (128, 64)}
    for scene, (name, size) in zip(SCENES, sizes.items(), strict=True):
        scene.draw().resize(size).save(root / name)
    prepare, threads = ReNoiseModule.prepare, list[str]()

    def watched(self: ReNoiseModule, images: ImageBatch) -> ImageBatch:
        threads.append(threading.current_thread().name)
        prepared = prepare(self, images)
        assert prepared.encoded is not None
        return prepared

    monkeypatch.setattr(ReNoiseModule, "prepare", watched)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        inference_mode=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path / "python",
    )
    captioner = CaptionerConfig(str(tiny_blip2))
    data = ImageFolderDataModule(root, batch_size=2, resolution=32, resize="bucket", captioner=captioner)
    batches = trainer.predict(ReNoiseModule(str(tiny_sd), num_inference_steps=2, inversion=ReNoise(iterations=1)), data)
    assert batches is not None
    results = {result.row["file_name"]: result for results in batches for result in results}
    assert set(results) == set(sizes)
    assert len(threads) == len(batches)
    assert all(name.startswith("prefetch") for name in threads)

    options = ["--model.inversion.iterations=1", "--data.batch_size=2", "--data.resize=bucket"]
    assert predict(root, out, *options, f"--data.captioner.checkpoint={tiny_blip2}").status == 0
    for row in Manifest(out).read():
        result = results[row["file_name"]]
        assert row["prompt"] == result.row["prompt"] != ""
        latent = load_file(out / row["inversion"])["latent"]
        torch.testing.assert_close(result.tensors["latent"], latent, rtol=0, atol=0)
    shapes = {name: tuple(result.tensors["latent"].shape[1:]) for name, result in results.items()}
    assert shapes["square.png"] == (8, 8)
    assert shapes["tall.png"] == shapes["wide.png"][::-1] != (8, 8)


@torch.no_grad()
@pytest.mark.parametrize(("metrics", "decoded"), [(["psnr", "latent_mse"], 1), (["psnr_vae"], 2)])
def test_the_ceiling_is_decoded_only_for_a_metric_that_uses_it(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch, metrics: list[str], decoded: int
) -> None:
    made = ReNoiseModule(str(tiny_sd), num_inference_steps=1, metrics=metrics)
    made.configure_model()
    calls, decode = [], made.model.decode_latents
    monkeypatch.setattr(made.model, "decode_latents", lambda latents: calls.append(len(latents)) or decode(latents))
    (row,) = (result.row for result in made.predict_step(batch().select([0]), 0))
    assert row["status"] == "ok"
    assert calls == [1] * decoded
