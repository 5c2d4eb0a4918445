from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from helpers import flux, z_image
from PIL import Image
from renoise_plugins.null_text import NullText
from renoise_plugins.pix2pix_zero import Pix2PixZero
from renoise_plugins.prompt_to_prompt import PromptToPrompt

import renoise
from renoise.core.schedule import Schedule
from renoise.errors import InputError
from renoise.inversion.null_text import NullTextInversion
from renoise.models import memory
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from renoise.models.memory import MemoryOptions
from renoise.outputs.manifest import Manifest

CPU = torch.device("cpu")
PROMPTS = ["a cat", "a dog"]


@pytest.fixture
def cpu_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets weights wait on the CPU for the CPU, with the same hooks that move them to a GPU."""

    def sequential(pipeline: DiffusionPipeline, device: torch.device) -> None:
        for part in pipeline.components.values():  # as diffusers does, whose device "cpu:0" accelerate cannot use
            if isinstance(part, torch.nn.Module):
                cpu_offload(part, device)

    monkeypatch.setattr(memory, "SHARES_MEMORY", ())
    monkeypatch.setattr(DiffusionPipeline, "enable_sequential_cpu_offload", sequential)


@torch.no_grad()
def outputs(model: DiffusionModel) -> list[torch.Tensor]:
    """Latents of two images, what the network predicts, and images again."""
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    latents = model.encode_images(images)
    prediction = model.predict(latents, 500, model.encode_prompts(PROMPTS, guidance_scale=2.0))
    return [latents, prediction, model.decode_latents(latents)]


@pytest.fixture(scope="module")
def expected(tiny_sdxl: Path) -> list[torch.Tensor]:
    return outputs(load_model(str(tiny_sdxl)))


@pytest.mark.usefixtures("cpu_as_gpu")
@pytest.mark.parametrize(
    "options",
    [
        {"offload": "model"},
        {"offload": "sequential"},
        {"offload": "group"},
        {"attention_slicing": True},
        {"channels_last": True},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_an_option_changes_memory_and_time_but_no_result(
    options: dict[str, Any], tiny_sdxl: Path, expected: list[torch.Tensor]
) -> None:
    model = load_model(str(tiny_sdxl))
    MemoryOptions(**options).apply(model, CPU)
    assert model.device.type == "cpu", "where the network runs, not where its weights wait"
    assert model.dtype == torch.float32
    assert model.movable == ("offload" not in options)
    for found, tensor in zip(outputs(model), expected, strict=True):
        torch.testing.assert_close(found, tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("cpu_as_gpu")
@pytest.mark.parametrize("random_pipeline", [flux.random_flux, flux.random_klein, z_image.random_pipeline])
def test_off_loading_changes_no_inversion_of_a_flow_model(
    random_pipeline: Callable[[], DiffusionPipeline], tmp_path: Path
) -> None:
    random_pipeline().save_pretrained(tmp_path)
    images = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))]
    kept, *moved = (
        renoise.load(tmp_path, num_inference_steps=2, offload=offload).invert(images, "a cat").inversion.latents
        for offload in ("none", "model", "group")
    )
    for latents in moved:
        torch.testing.assert_close(latents, kept, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("cpu_as_gpu")
def test_weights_wait_where_the_option_says(tiny_sd: Path) -> None:
    model = load_model(str(tiny_sd))
    MemoryOptions("sequential").apply(model, CPU)
    assert {weight.device.type for weight in model.parameters()} == {"meta"}, "and are read in layer by layer"
    outputs(model)
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


def test_latents_are_where_the_network_runs_although_its_weights_wait_on_the_cpu(tiny_sd: Path) -> None:
    model = load_model(str(tiny_sd))
    model.pipeline.enable_group_offload(torch.device("cuda:0"), offload_type="leaf_level")  # moves nothing yet
    assert next(model.network.parameters()).device == CPU
    assert model.device == torch.device("cuda:0")


@pytest.mark.usefixtures("cpu_as_gpu")
def test_what_needs_gradients_is_refused_where_weights_leave_before_they_are_computed(tiny_sd: Path) -> None:
    model = load_model(str(tiny_sd))
    MemoryOptions("group").apply(model, CPU)
    schedule = Schedule.from_scheduler(model.scheduler, 1)
    for editor in (Pix2PixZero(), NullText()):
        with pytest.raises(ValueError, match=r"needs gradients, which offload group does not give; use offload model"):
            editor.check(model, schedule)
    with pytest.raises(ValueError, match=r"^NullTextInversion needs gradients"):
        NullTextInversion().check(model, schedule, guidance_scale=2.0)
    Pix2PixZero(cross_attention_guidance_amount=0).check(model, schedule)


def test_tiles_of_the_autoencoder_are_put_together_as_diffusers_does(tiny_sd: Path) -> None:
    model, expected = load_model(str(tiny_sd)), AutoencoderKL.from_pretrained(tiny_sd / "vae", dtype=torch.float32)
    MemoryOptions(vae_tiling=True).apply(model, CPU)
    expected.enable_tiling()
    side = 2 * expected.config.sample_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = model.encode_images(images)
        torch.testing.assert_close(
            latents, expected.encode(2 * images - 1).latent_dist.mean * expected.config.scaling_factor
        )
    assert model.vae.use_slicing
    assert model.vae.use_tiling


@pytest.mark.usefixtures("cpu_as_gpu")
@pytest.mark.parametrize("offload", ["none", "group"])
def test_weights_in_8_bits_predict_what_rounded_weights_predict(offload: memory.Offload, tiny_sd: Path) -> None:
    model, rounded = load_model(str(tiny_sd)), load_model(str(tiny_sd))
    MemoryOptions(offload, layerwise_casting=True).apply(model, CPU)
    assert model.dtype == torch.float32, "the type that the network computes in"
    assert not model.movable, "a cast by Lightning would undo the storage"
    cast = 0
    stored = dict(model.network.named_parameters())
    for name, weight in rounded.network.named_parameters():
        if stored[name].dtype == torch.float8_e4m3fn:
            weight.data = weight.data.to(torch.float8_e4m3fn).float()
            cast += weight.numel()
    assert cast > 0.9 * sum(weight.numel() for weight in rounded.network.parameters())
    for found, tensor in zip(outputs(model), outputs(rounded), strict=True):
        torch.testing.assert_close(found, tensor)


def test_the_type_of_a_network_is_not_that_of_its_quantized_weights(tiny_sd: Path) -> None:
    model = load_model(str(tiny_sd), dtype=torch.bfloat16)
    first = next(model.network.modules())
    first.register_parameter("packed", torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False))
    assert next(model.network.parameters()).dtype == torch.uint8
    assert (model.dtype, model.state_dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.usefixtures("cpu_as_gpu")
@pytest.mark.parametrize("options", [["--model.offload=group"], ["--model.layerwise_casting=true"]], ids=str)
def test_lightning_leaves_a_model_with_hooks_alone(
    options: list[str], tiny_sd: Path, tmp_path: Path, run_cli: Any
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64), "teal").save(photos / "teal.png")
    arguments = {"model.checkpoint": tiny_sd, "model.num_inference_steps": 2, "data.root": photos}
    arguments |= {"data.resolution": 64, "trainer.precision": "bf16-true"}
    rows = []
    for folder, more in (("plain", []), ("saving", options)):
        root = tmp_path / folder
        given = [f"--{name}={value}" for name, value in (arguments | {"trainer.default_root_dir": root}).items()]
        run = run_cli("predict", *given, *more)
        assert run.status == 0, run.err
        (row,) = Manifest(root).read()
        rows.append(row)
    assert rows[0]["psnr"] == pytest.approx(rows[1]["psnr"], abs=0.5 if "layerwise" in options[0] else 1e-9)


def test_networks_that_wait_on_the_cpu_are_called_by_one_thread_only(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SHARES_MEMORY", ())
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    prepared: list[bool] = []
    monkeypatch.setattr(renoise.ReNoiseModule, "prepare", lambda module, batch: prepared.append(True))
    module = renoise.ReNoiseModule(str(tiny_sd), num_inference_steps=1, offload="model")
    trainer = L.Trainer(
        accelerator="cpu", logger=False, inference_mode=False, default_root_dir=tmp_path / "out",
        enable_progress_bar=False,
    )  # fmt: skip
    ((result,),) = trainer.predict(module, renoise.ImageFolderDataModule(tmp_path, resolution=64))
    assert result.row["status"] == "ok"
    assert not prepared


@pytest.mark.usefixtures("cpu_as_gpu")
@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_a_pipeline_in_memory_may_off_load_its_weights(offload: str, tiny_sd: Path) -> None:
    plain = StableDiffusionPipeline.from_pretrained(tiny_sd, dtype=torch.float32)
    saving = StableDiffusionPipeline.from_pretrained(tiny_sd, dtype=torch.float32)
    getattr(saving, offload)(device=CPU)
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))]
    found, expected = (
        renoise.load(pipeline, num_inference_steps=2).invert(images, "a cat").inversion.latents
        for pipeline in (saving, plain)
    )
    assert torch.equal(found, expected)


def test_compiled_blocks_give_editors_the_attention_that_they_watch(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block is traced and split as ever, but its graphs run as they are: to generate code takes a minute."""

    def compile_one_block(network: UNet2DConditionModel) -> None:
        network.mid_block.attentions[0].transformer_blocks[0].compile(backend="eager")

    monkeypatch.setattr(UNet2DConditionModel, "compile_repeated_blocks", compile_one_block)
    source, target = "a cat on a plain red background", "a dog on a plain red background"
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    edits = []
    for compiled in (False, True):
        inverted = renoise.load(tiny_sd, num_inference_steps=1, compile=compiled).invert(images, source)
        edits.append(inverted.edit(editor=PromptToPrompt(), prompt=target)[0])
    plain, found = (np.asarray(edit, dtype=float) for edit in edits)
    np.testing.assert_allclose(found, plain, atol=1)


def test_gradient_checkpointing_computes_activations_twice_and_the_same_edit(tiny_sd: Path) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    edits, calls = [], []
    for checkpointing in (False, True):
        pipeline = renoise.load(tiny_sd, num_inference_steps=2, gradient_checkpointing=checkpointing)
        count = [0]
        block = pipeline.model.network.mid_block.resnets[1]
        block.register_forward_pre_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        inverted = pipeline.invert(images, "a cat")
        edits.append(inverted.edit(editor=Pix2PixZero({"cat": "dog"}), prompt="a dog")[0])
        calls.append(count[0])
    assert calls[1] > calls[0]
    assert edits[0] == edits[1]


def test_an_option_that_cannot_be_is_refused(tiny_sd: Path) -> None:
    with pytest.raises(InputError, match=r"^offload must be one of none, model, sequential, group, got 'all'"):
        MemoryOptions("all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^offload must be none on the cpu, which has no memory of its own"):
        renoise.load(tiny_sd, offload="model")
    model = load_model(str(tiny_sd))
    model.network = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"^compile: the model does not have it"):
        MemoryOptions(compile=True).apply(model, CPU)
    with pytest.raises(InputError, match=r"^offload must be left out with a pipeline in memory, got model"):
        renoise.load(StableDiffusionPipeline.from_pretrained(tiny_sd), offload="model")


def test_another_autoencoder_takes_the_place_of_the_checkpoints(tiny_sd: Path, tmp_path: Path) -> None:
    other = AutoencoderKL.from_pretrained(tiny_sd / "vae", dtype=torch.float32)
    other.decoder.conv_out.bias.data += 1
    other.save_pretrained(tmp_path / "vae")
    pipeline = renoise.load(tiny_sd, num_inference_steps=1, vae=str(tmp_path / "vae"))
    assert torch.equal(pipeline.model.vae.decoder.conv_out.bias, other.decoder.conv_out.bias)
    assert pipeline.settings["vae"] == str(tmp_path / "vae")
    with pytest.raises(InputError, match=r"^vae: .*nowhere"):
        renoise.load(tiny_sd, vae=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"^vae: \S*unet must be an AutoencoderKL, it is a UNet2DConditionModel"):
        renoise.load(tiny_sd, vae=str(tiny_sd / "unet"))
    AutoencoderKL(latent_channels=8, norm_num_groups=1, block_out_channels=[4]).save_pretrained(tmp_path / "wide")
    with pytest.raises(InputError, match=r"8"):
        renoise.load(tiny_sd, vae=str(tmp_path / "wide"))
