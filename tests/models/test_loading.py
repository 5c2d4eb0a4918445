from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from renoise.errors import InputError
from renoise.models.loading import load_model, wrap_pipeline
from renoise.models.sdxl import StableDiffusionXL
from renoise.models.stable_diffusion import StableDiffusion
from tests.helpers.pipelines import state


def test_an_autoencoder_with_a_mean_of_latents_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sd, tmp_path / "model")
    config = tmp_path / "model/vae/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latents_mean": [0.1] * 4}))
    with pytest.raises(
        InputError, match=r"^checkpoint: \S+ does not fit StableDiffusionPipeline: its autoencoder has latents_mean"
    ):
        load_model(str(tmp_path / "model"))


def test_a_checkpoint_is_loaded_as_its_family(tiny_sd: Path, tiny_sdxl: Path) -> None:
    assert type(load_model(str(tiny_sd))) is StableDiffusion
    assert type(load_model(str(tiny_sdxl))) is StableDiffusionXL


# A pipeline in memory


@pytest.fixture
def pipeline(tiny_sd: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_sd, dtype=torch.bfloat16)


def test_a_pipeline_in_memory_is_not_changed(pipeline: StableDiffusionPipeline) -> None:
    pipeline.unet.requires_grad_(True)
    pipeline.vae.requires_grad_(False)
    before = state(pipeline)
    model = wrap_pipeline(pipeline)
    with torch.no_grad():
        latents = model.encode_images(torch.rand(1, 3, 32, 32))
        model.predict(latents, 500, model.encode_prompts(["a cat"], guidance_scale=2.0))
        model.decode_latents(latents)
    assert state(pipeline) == before
    assert model.dtype == torch.bfloat16
    assert latents.dtype == torch.float32


def test_the_autoencoder_of_an_sdxl_pipeline_stays_in_float16(tiny_sdxl: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, dtype=torch.float16)
    pipeline.vae.register_to_config(force_upcast=True)
    model = wrap_pipeline(pipeline)
    assert model.decode_latents(torch.zeros(1, 4, 4, 4)).isfinite().all()
    assert pipeline.vae.dtype == torch.float16


def test_a_pipeline_of_another_family_is_refused_with_the_supported_ones() -> None:
    class OtherPipeline(DiffusionPipeline):
        pass

    with pytest.raises(InputError, match=r"is a OtherPipeline; supported are .*StableDiffusionPipeline, StableDif.*XL"):
        wrap_pipeline(OtherPipeline())


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder_2", "tokenizer_2"])
def test_a_pipeline_that_lacks_a_part_is_refused(tiny_sdxl: Path, part: str) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    setattr(pipeline, part, None)
    with pytest.raises(InputError, match=rf"^checkpoint: the StableDiffusionXLPipeline has no {part}$"):
        wrap_pipeline(pipeline)


def test_every_part_that_a_pipeline_lacks_is_named(pipeline: StableDiffusionPipeline) -> None:
    pipeline.vae = pipeline.tokenizer = None
    with pytest.raises(InputError, match=r"^checkpoint: the StableDiffusionPipeline has no vae and no tokenizer$"):
        wrap_pipeline(pipeline)


def test_a_pipeline_whose_text_encoders_are_in_half_precision_predicts_in_the_networks_type(tiny_sdxl: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    pipeline.text_encoder.half()
    pipeline.text_encoder_2.half()
    model, exact = wrap_pipeline(pipeline), load_model(str(tiny_sdxl))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found, expected = (
        each.predict(latents, 500, each.encode_prompts(["a cat"], guidance_scale=2.0)) for each in (model, exact)
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert pipeline.text_encoder.dtype == torch.float16


def test_a_pipeline_in_training_mode_is_refused(pipeline: StableDiffusionPipeline) -> None:
    pipeline.unet.train()
    with pytest.raises(InputError, match=r"is in training mode \(unet\); call \.eval\(\)"):
        wrap_pipeline(pipeline)


def test_weights_in_half_precision_files_are_loaded_in_float32(tiny_sdxl: Path) -> None:
    assert {parameter.dtype for parameter in load_model(str(tiny_sdxl)).parameters()} == {torch.float32}
