from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderTiny, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

from renoise.errors import InputError
from renoise.models.loading import load_model, wrap_pipeline

ADDED = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 144}


def check(pipeline: StableDiffusionPipeline, **changes: Any) -> None:
    """Wraps a pipeline with a UNet whose configuration is changed."""
    config = {name: value for name, value in pipeline.unet.config.items() if not name.startswith("_")}
    pipeline.unet = UNet2DConditionModel(**config | changes).eval()
    wrap_pipeline(pipeline)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 9}, "its UNet takes 9 channels and its autoencoder makes 4. UNets for inpainting"),
        ({"in_channels": 5}, "takes 5 channels .* depth"),
        ({"in_channels": 8}, "takes 8 channels .* InstructPix2Pix take a second image"),
        ({"out_channels": 8}, "returns 8 channels for latents of 4"),
        ({"num_class_embeds": 10}, "needs class labels"),
        ({"class_embed_type": "timestep"}, "needs class labels"),
        ({"addition_embed_type": "text_time"} | ADDED, "needs the inputs of addition_embed_type text_time"),
        ({"addition_embed_type": "image", "encoder_hid_dim": 96}, "needs the inputs of addition_embed_type image"),
        ({"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 16}, "needs embeddings of an image"),
        ({"cross_attention_dim": 64}, "takes prompt embeddings of size 64, and its text encoders make 96"),
    ],
)
def test_a_unet_that_needs_what_the_family_does_not_give_is_refused(
    changes: dict[str, Any], message: str, tiny_sd: Path
) -> None:
    with pytest.raises(
        InputError, match=rf"^checkpoint: the StableDiffusionPipeline does not fit StableDiffusionPipeline: .*{message}"
    ):
        check(StableDiffusionPipeline.from_pretrained(tiny_sd), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_hid_dim": 96},
        {"addition_embed_type": "text", "addition_embed_type_num_heads": 4, "encoder_hid_dim": 96},
        {"attention_type": "gated"},
        {"time_embedding_type": "fourier"},
    ],
)
def test_a_unet_that_needs_nothing_else_is_accepted(changes: dict[str, Any], tiny_sd: Path) -> None:
    check(StableDiffusionPipeline.from_pretrained(tiny_sd), **changes)


def test_an_sdxl_refiner_is_refused(tiny_sdxl: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    size = pipeline.unet.config.projection_class_embeddings_input_dim - pipeline.unet.config.addition_time_embed_dim
    with pytest.raises(InputError, match=rf"takes {size} numbers as text and time embeddings .* refiners"):
        check(pipeline, projection_class_embeddings_input_dim=size)


def test_the_resolution_of_an_sdxl_is_the_longer_side_and_must_be_known(tiny_sdxl: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    check(pipeline, sample_size=(16, 24))
    assert wrap_pipeline(pipeline).default_resolution == 96
    with pytest.raises(InputError, match="has no sample_size"):
        check(pipeline, sample_size=None)


def test_an_autoencoder_that_only_sketches_is_refused(tiny_sd: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.vae = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).eval()
    with pytest.raises(InputError, match="AutoencoderTiny is too inaccurate for inversion"):
        wrap_pipeline(pipeline)


def test_a_checkpoint_for_inpainting_is_refused_by_its_name(tiny_sd: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    config = dict(pipeline.unet.config) | {"in_channels": 9}
    pipeline.unet = UNet2DConditionModel.from_config(config)
    pipeline.save_pretrained(tmp_path / "inpainting")
    with pytest.raises(InputError, match=r"^checkpoint: \S*/inpainting does not fit StableDiffusionPipeline: .*9 chan"):
        load_model(str(tmp_path / "inpainting"))
