from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from renoise_plugins.null_text import NullText
from renoise_plugins.pix2pix_zero import Pix2PixZero
from renoise_plugins.prompt_to_prompt import PromptToPrompt

import renoise
from renoise.errors import InputError
from tests.helpers.pipelines import state


def test_a_preset_gives_what_the_caller_leaves_out(tiny_sd: Path) -> None:
    checkpoint = tiny_sd.parent / "tiny-sdxl-turbo"
    pipeline = renoise.load(checkpoint, preset="sdxl_turbo", guidance_scale=2.0)
    assert type(pipeline.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert [step.timestep for step in pipeline.schedule] == [999, 749, 499, 249]
    assert pipeline.inversion.init_args["iterations"] == 9
    assert pipeline.guidance_scale == 2.0
    assert pipeline.settings["checkpoint"] == str(checkpoint.resolve())


def test_arguments_win_over_the_preset(tiny_sd: Path) -> None:
    ddim = renoise.DDIM()
    pipeline = renoise.load(
        tiny_sd, preset="lcm_lora", scheduler="LCMScheduler", num_inference_steps=2, inversion=ddim, seed=3
    )
    assert type(pipeline.scheduler).__name__ == "LCMScheduler"
    assert len(pipeline.schedule) == 2
    assert pipeline.inversion is ddim
    assert pipeline.seed == 3
    assert pipeline.settings["lora"] is None, "the preset's LoRA belongs to its checkpoint"


def test_a_preset_can_be_a_file(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("model: {num_inference_steps: 3, inversion: DDIM}")
    pipeline = renoise.load(tiny_sd, preset=str(tmp_path / "own.yaml"))
    assert (len(pipeline.schedule), type(pipeline.inversion)) == (3, renoise.DDIM)
    (tmp_path / "empty.yaml").write_text("data: {}")
    with pytest.raises(InputError, match=r"^preset: .*empty\.yaml has no section `model`"):
        renoise.load(tiny_sd, preset=str(tmp_path / "empty.yaml"))


def test_weights_are_read_in_the_type_asked_for(tiny_sdxl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[torch.dtype] = set()
    cast = torch.nn.Module.requires_grad_

    def requires_grad_(module: torch.nn.Module, requires_grad: bool = True) -> torch.nn.Module:
        read.update(weight.dtype for weight in module.parameters())
        return cast(module, requires_grad)

    monkeypatch.setattr(torch.nn.Module, "requires_grad_", requires_grad_)
    pipeline = renoise.load(tiny_sdxl, num_inference_steps=1, dtype=torch.bfloat16)
    assert read == {torch.bfloat16}, "not in float32 first, which takes twice the memory"
    assert pipeline.settings["dtype"] == "bfloat16"
    exact = renoise.load(tiny_sdxl, num_inference_steps=1).model.state_dict()
    found = pipeline.model.state_dict()
    assert all(
        torch.equal(found[name], weight.bfloat16()) for name, weight in exact.items() if weight.is_floating_point()
    )


def test_a_pipeline_of_another_family_or_with_an_option_of_loading_is_refused(tiny_sd: Path) -> None:
    diffusers_pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    with pytest.raises(InputError, match=r"^lora must be left out with a pipeline in memory, got some/lora"):
        renoise.load(diffusers_pipeline, lora="some/lora")
    with pytest.raises(InputError, match=r"^dtype must be left out with a pipeline in memory"):
        renoise.load(diffusers_pipeline, dtype=torch.float16)
    with pytest.raises(InputError, match=r"DDIMPipeline"):
        renoise.load(DDIMPipeline(diffusers_pipeline.unet, diffusers_pipeline.scheduler))


def test_a_pipeline_in_memory_keeps_its_scheduler_its_type_and_itself(tiny_sd: Path) -> None:
    diffusers_pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, dtype=torch.bfloat16)
    scheduler = EulerDiscreteScheduler.from_config(diffusers_pipeline.scheduler.config)
    diffusers_pipeline.scheduler = scheduler
    network = diffusers_pipeline.unet
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    processors, training = dict(network.attn_processors), network.training
    pipeline = renoise.load(diffusers_pipeline, num_inference_steps=2)
    pipeline.invert(torch.rand(3, 32, 32), "a cat").edit("a dog")
    assert diffusers_pipeline.unet is network
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    assert (dict(network.attn_processors), network.training) == (processors, training)
    assert pipeline.scheduler is diffusers_pipeline.scheduler is scheduler
    assert pipeline.model.dtype == torch.bfloat16
    assert all(weight.requires_grad for weight in diffusers_pipeline.unet.parameters())


EDITORS = [PromptToPrompt({"cat": "dog"}), NullText({"cat": "dog"}, iterations=1), Pix2PixZero({"cat": "dog"})]


@pytest.mark.parametrize(
    ("kind", "dtype"), [(StableDiffusionPipeline, torch.float32), (StableDiffusionXLPipeline, torch.bfloat16)]
)
def test_a_pipeline_in_memory_is_left_as_it_was_by_inversions_and_edits(
    kind: type[DiffusionPipeline], dtype: torch.dtype, tiny_sd: Path, tiny_sdxl: Path
) -> None:
    folder = tiny_sd if kind is StableDiffusionPipeline else tiny_sdxl
    diffusers_pipeline = kind.from_pretrained(folder, dtype=dtype)
    diffusers_pipeline.unet.to(memory_format=torch.channels_last).requires_grad_(True)
    diffusers_pipeline.vae.requires_grad_(False)
    options = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    diffusers_pipeline.encode_prompt("a cat", **options)  # transformers adds hooks of its own at the first call
    before = state(diffusers_pipeline)
    pipeline = renoise.load(diffusers_pipeline, num_inference_steps=2, inversion=renoise.ReNoise(1), guidance_scale=2.0)
    inverted = pipeline.invert(torch.rand(3, 32, 32), "a cat", keep_trajectory=True)
    for editor in EDITORS:
        inverted.edit(editor=editor)
    assert state(diffusers_pipeline) == before


def test_a_scheduler_is_given_by_name_or_as_an_object(tiny_sd: Path) -> None:
    options = {"timestep_spacing": "trailing"}
    by_name = renoise.load(tiny_sd, scheduler="DDIMScheduler", scheduler_options=options, num_inference_steps=4)
    scheduler = DDIMScheduler.from_config(by_name.model.scheduler.config, **options)
    as_object = renoise.load(tiny_sd, scheduler=scheduler, num_inference_steps=4)
    assert by_name.schedule == as_object.schedule


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": 3}, r"^checkpoint must be a path, a hub id or a diffusers pipeline, got an object of type int"),
        ({}, r"^checkpoint must be given"),
        ({"checkpoint": "no/such/folder/here"}, r"^checkpoint: no/such/folder/here: no such file or folder here, "),
        ({"checkpoint": "SD", "preset": "no"}, r"^preset: there is no 'no'"),
        ({"checkpoint": "SD", "num_inference_steps": 0}, r"^num_inference_steps must be in \[1, 1000\], got 0"),
        ({"checkpoint": "SD", "guidance_scale": -1.0}, r"^guidance_scale must be 1 .* or more, got -1"),
        ({"checkpoint": "SD", "guidance_scale": 0.5}, r"^guidance_scale must be 1 .* or more, got 0\.5"),
        ({"checkpoint": "SD", "scheduler": "Magic"}, r"^scheduler: diffusers has no 'Magic'"),
        (
            {"checkpoint": "SD", "inversion": renoise.EditFriendlyInversion()},
            r"^inversion: EditFriendly",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], message: str, tiny_sd: Path) -> None:
    given = {name: str(tiny_sd) if value == "SD" else value for name, value in arguments.items()}
    with pytest.raises(InputError, match=message):
        renoise.load(**given)  # type: ignore[arg-type]
