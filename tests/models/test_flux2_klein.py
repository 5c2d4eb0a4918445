from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, Flux2KleinPipeline
from helpers import flow_sampling as sampling
from helpers.flow_sampling import PROMPTS, STEPS
from helpers.flux import AUTOENCODER, random_klein
from torch import nn

import renoise
from renoise.errors import InputError
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import wrap_pipeline


def noise(batch: int = 2, height: int = 4, width: int = 4) -> torch.Tensor:
    return torch.randn(batch, 16, height, width, generator=torch.Generator().manual_seed(0))


def own_latents(pipeline: Flux2KleinPipeline, start: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    height, width = (side * 2 * pipeline.vae_scale_factor for side in start.shape[-2:])
    latents: torch.Tensor = pipeline(
        prompt=list(PROMPTS[: len(start)]),
        height=height,
        width=width,
        latents=start.clone(),
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        output_type="latent",
    ).images
    return latents


def our_latents(model: DiffusionModel, start: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """Samples, and leaves the normalised patches as the pipeline does before it decodes them."""
    latents, pipeline = sampling.our_latents(model, start, guidance_scale), model.pipeline
    std = torch.sqrt(pipeline.vae.bn.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps)
    mean = pipeline.vae.bn.running_mean.view(1, -1, 1, 1)
    unpatched: torch.Tensor = pipeline._unpatchify_latents(latents * std + mean)
    return unpatched


class OneBranch(nn.Module):
    """A transformer that is called for one branch of guidance at a time."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self.network = network
        self.batch = batch

    def forward(self, hidden_states: torch.Tensor, return_dict: bool, **inputs: torch.Tensor) -> list[torch.Tensor]:
        inputs = {"hidden_states": hidden_states} | {name: value for name, value in inputs.items() if value is not None}
        branches = zip(*(value.split(self.batch) for value in inputs.values()), strict=True)
        outputs = [self.network(**dict(zip(inputs, branch, strict=True)), return_dict=False)[0] for branch in branches]
        return [torch.cat(outputs)]


@pytest.mark.parametrize(("batch", "height", "width", "dynamic"), [(1, 4, 4, True), (2, 2, 6, True), (2, 4, 4, False)])
@pytest.mark.parametrize(("is_distilled", "guidance_scale"), [(False, 1.0), (False, 4.0), (True, 1.0)])
def test_sampling_equals_the_pipelines_own_bit_for_bit(
    is_distilled: bool, guidance_scale: float, batch: int, height: int, width: int, dynamic: bool
) -> None:
    model = wrap_pipeline(random_klein(is_distilled, use_dynamic_shifting=dynamic))
    if guidance_scale != 1:  # the pipeline calls the network for one branch at a time, which rounds differently
        model.network = OneBranch(model.network, batch)
    start = noise(batch, height, width)
    expected = own_latents(model.pipeline, start, guidance_scale)
    assert torch.equal(our_latents(model, start, guidance_scale), expected)


class Changed(nn.Module):
    """A transformer with a mistake."""

    def __init__(self, network: nn.Module, mistake: str) -> None:
        super().__init__()
        self.network = network
        self.mistake = mistake

    def forward(self, hidden_states: torch.Tensor, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        if self.mistake == "lost /1000":
            inputs["timestep"] = 1000 * inputs["timestep"]
        if self.mistake == "swapped ids":
            inputs["img_ids"] = inputs["img_ids"].flip(-1)
        output = self.network(hidden_states, **inputs)[0]
        return (-output if self.mistake == "flipped sign" else output,)


@pytest.mark.parametrize("mistake", ["flipped sign", "lost /1000", "swapped ids", "lost shift"])
def test_the_comparison_finds_a_mistake(mistake: str) -> None:
    model = wrap_pipeline(random_klein())
    expected = own_latents(model.pipeline, noise(), 1.0)
    if mistake == "lost shift":
        model.pipeline.scheduler = random_klein(use_dynamic_shifting=False, shift=1.0).scheduler
    else:
        model.network = Changed(model.network, mistake)
    assert (our_latents(model, noise(), 1.0) - expected).abs().max() > 1e-4


def test_inversion_and_back_is_exact_in_float64() -> None:
    guidance_scale = 2.0
    pipeline = random_klein().to(dtype=torch.float64)
    inversion = renoise.ReNoise(iterations=30, tolerance=1e-11, warm_start=True)
    loaded = renoise.load(pipeline, num_inference_steps=12, inversion=inversion, guidance_scale=guidance_scale)
    latents, conditioning = noise(1, 2, 6).double(), loaded.model.encode_prompts(PROMPTS[:1], guidance_scale)
    negative = conditioning.negative_prompt_embeds
    assert negative is not None
    short = replace(
        conditioning,
        prompt_embeds=conditioning.prompt_embeds[:, :8],  # takes less time
        negative_prompt_embeds=negative[:, :8],
    )
    inverted = loaded.invert_latents(latents, short, names=["a"])
    assert (inverted.latents - latents).std() > 0.1
    assert (sample(loaded.model, inverted) - latents).abs().max() <= 1e-8


@torch.no_grad()
def test_images_do_not_depend_on_the_others_of_their_batch() -> None:
    model = wrap_pipeline(random_klein().to(dtype=torch.float64))
    start = noise(height=2, width=2).double()
    both = our_latents(model, start, 2.0)
    torch.testing.assert_close(our_latents(model, start[:1], 2.0), both[:1], rtol=0, atol=1e-12)


def test_images_are_patched_and_normalised_as_in_the_pipeline() -> None:
    pipeline = random_klein()
    model, images = wrap_pipeline(pipeline), torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    latents = model.encode_images(images)
    assert torch.equal(latents, pipeline._encode_vae_image(2 * images - 1, generator=None))
    std = torch.sqrt(pipeline.vae.bn.running_var + pipeline.vae.config.batch_norm_eps).view(1, -1, 1, 1)
    unpatched = pipeline._unpatchify_latents(latents * std + pipeline.vae.bn.running_mean.view(1, -1, 1, 1))
    own = pipeline.image_processor.postprocess(pipeline.vae.decode(unpatched).sample, output_type="pt")
    assert torch.equal(model.decode_latents(latents), own)


def test_a_long_prompt_is_cut_where_the_text_encoder_cuts_it() -> None:
    model = wrap_pipeline(random_klein())
    kept, rest = model.split_prompt("c" * 600)
    chat = model.pipeline.tokenizer.apply_chat_template(
        [{"role": "user", "content": kept}], tokenize=False, add_generation_prompt=True
    )
    assert kept + rest == "c" * 600
    assert len(model.pipeline.tokenizer(chat).input_ids) == 512


def test_a_saved_distilled_checkpoint_is_inverted_in_bfloat16_and_refuses_guidance(tmp_path: Path) -> None:
    random_klein(is_distilled=True).save_pretrained(tmp_path)
    loaded = renoise.load(tmp_path, num_inference_steps=2, dtype=torch.bfloat16)
    latents = loaded.invert(torch.rand(1, 3, 8, 16), "a cat").inversion.latents
    assert (latents.dtype, latents.shape) == (torch.float32, (1, 16, 2, 4))
    with pytest.raises(InputError, match=r"^guidance_scale must be 1, got 2: the checkpoint was distilled"):
        renoise.load(tmp_path, num_inference_steps=2, guidance_scale=2.0)


def test_parts_that_do_not_fit_are_refused() -> None:
    pipeline = random_klein()
    pipeline.transformer.register_to_config(joint_attention_dim=32)
    with pytest.raises(InputError, match="takes embeddings of size 32, and the text encoder makes 24"):
        wrap_pipeline(pipeline)
    pipeline.register_modules(vae=AutoencoderKL(**AUTOENCODER).eval())
    with pytest.raises(InputError, match="its autoencoder is an AutoencoderKL; take the checkpoint's own"):
        wrap_pipeline(pipeline)
