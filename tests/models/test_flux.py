from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from helpers.flow_sampling import PROMPTS, STEPS, our_latents
from helpers.flux import random_flux
from renoise_plugins.flow_edit import FlowEdit
from torch import nn

import renoise
from renoise.editing.runner import check_needs
from renoise.errors import InputError, InputWarning
from renoise.inversion.sampling import sample
from renoise.models.loading import wrap_pipeline


def noise(batch: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(0))


def own_latents(pipeline: FluxPipeline, start: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    (count, channels, height, width), scale = start.shape, pipeline.vae_scale_factor
    packed = pipeline(
        list(PROMPTS[:count]),
        height=height * scale,
        width=width * scale,
        latents=pipeline._pack_latents(start, count, channels, height, width),
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        output_type="latent",
    ).images
    return torch.as_tensor(pipeline._unpack_latents(packed, height * scale, width * scale, scale))


@pytest.mark.parametrize(("batch", "height", "width", "dynamic"), [(1, 8, 8, True), (2, 4, 12, True), (2, 8, 8, False)])
@pytest.mark.parametrize("guidance_scale", [None, 1.0, 3.5], ids=["schnell", "dev 1", "dev 3.5"])
def test_sampling_equals_the_pipelines_own_bit_for_bit(
    guidance_scale: float | None, batch: int, height: int, width: int, dynamic: bool
) -> None:
    model = wrap_pipeline(random_flux(guidance_scale is not None, use_dynamic_shifting=dynamic))
    start, scale = noise(batch, height, width), guidance_scale or 1.0
    assert torch.equal(our_latents(model, start, scale), own_latents(model.pipeline, start, scale))


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


@pytest.mark.parametrize("mistake", ["flipped sign", "lost /1000", "swapped ids", "lost shift", "other guidance"])
def test_the_comparison_finds_a_mistake(mistake: str) -> None:
    model = wrap_pipeline(random_flux())
    start, guidance_scale = noise(), 2.0
    expected = own_latents(model.pipeline, start, guidance_scale)
    if mistake == "lost shift":
        model.pipeline.scheduler = random_flux(use_dynamic_shifting=False, shift=1.0).scheduler
    elif mistake == "other guidance":
        guidance_scale = 3.0
    else:
        model.network = Changed(model.network, mistake)
    assert (our_latents(model, start, guidance_scale) - expected).abs().max() > 1e-4


def test_inversion_and_back_is_exact_in_float64_for_every_size() -> None:
    pipeline = random_flux().to(dtype=torch.float64)
    inversion = renoise.ReNoise(iterations=60, tolerance=1e-11, warm_start=True, solver=renoise.Anderson())
    loaded = renoise.load(pipeline, num_inference_steps=4, inversion=inversion)
    levels = []
    for latents in (noise(1).double(), noise(1, 4, 12).double()):
        conditioning = loaded.model.encode_prompts(PROMPTS[:1])
        short = replace(conditioning, prompt_embeds=conditioning.prompt_embeds[:, :8])  # takes less time
        inverted = loaded.invert_latents(latents, short, names=["a"])
        assert (inverted.latents - latents).std() > 0.1
        assert (sample(loaded.model, inverted) - latents).abs().max() <= 1e-8
        levels.append(inverted.schedule.steps[1].sigma)
    assert levels[0] != levels[1]


def test_images_do_not_depend_on_the_others_of_their_batch() -> None:
    model = wrap_pipeline(random_flux().to(dtype=torch.float64))
    start = noise(height=4, width=4).double()
    both = our_latents(model, start, 2.0)
    torch.testing.assert_close(our_latents(model, start[:1], 2.0), both[:1], rtol=0, atol=1e-12)


def test_the_guidance_of_the_inversion_and_that_of_the_edit_reach_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = renoise.load(random_flux(), num_inference_steps=2, guidance_scale=1.5, inversion=renoise.DDIM())
    seen: list[float] = []
    forward = loaded.model.network.forward

    def watched(*arguments: torch.Tensor, guidance: torch.Tensor, **inputs: torch.Tensor) -> object:
        seen.extend(guidance.tolist())
        return forward(*arguments, guidance=guidance, **inputs)

    monkeypatch.setattr(loaded.model.network, "forward", watched)
    inverted = loaded.invert(torch.rand(1, 3, 16, 16), "a cat")
    assert set(seen) == {1.5}
    seen.clear()
    inverted.edit("a dog", guidance_scale=3.0)
    assert set(seen) == {3.0}


def test_schnell_refuses_guidance_and_warns_of_many_steps() -> None:
    with pytest.warns(InputWarning, match=r"^num_inference_steps: .* distilled to sample in 8 steps or fewer, got 9;"):
        renoise.load(random_flux(guidance_embeds=False), num_inference_steps=9)
    with pytest.raises(InputError, match=r"^guidance_scale must be 1, got 2: the checkpoint was distilled"):
        renoise.load(random_flux(guidance_embeds=False), guidance_scale=2.0, num_inference_steps=2)
    loaded = renoise.load(random_flux(guidance_embeds=False), num_inference_steps=2)
    for editor, option in (
        (renoise.PromptEditor(guidance_scale=3.0), "PromptEditor: guidance_scale"),
        (FlowEdit(guidance_scale=1.0, source_guidance_scale=3.0), "FlowEdit: source_guidance_scale"),
    ):
        with pytest.raises(InputError, match=rf"^{option} must be 1, got 3"):
            check_needs(editor, loaded.model, loaded.schedule)


def test_a_saved_checkpoint_in_bfloat16_is_inverted_saved_and_restored_at_its_size(tmp_path: Path) -> None:
    random_flux().save_pretrained(tmp_path / "model")
    loaded = renoise.load(tmp_path / "model", num_inference_steps=2, dtype=torch.bfloat16)
    inverted = loaded.invert(torch.rand(1, 3, 8, 24), "a cat")
    assert inverted.inversion.latents.dtype == torch.float32
    inverted.save(tmp_path / "cat.safetensors")
    restored = renoise.load_inversion(tmp_path / "cat.safetensors", loaded).inversion
    assert restored.schedule == inverted.inversion.schedule != loaded.schedule
    with pytest.raises(InputError, match="multiple"):
        loaded.invert(torch.rand(1, 3, 10, 16), "a cat")


@torch.no_grad()
def test_a_lora_is_merged_as_diffusers_applies_it(tmp_path: Path) -> None:
    pipeline = random_flux()
    pipeline.save_pretrained(tmp_path / "model")
    name, generator = "transformer_blocks.0.attn.to_q", torch.Generator().manual_seed(1)
    shapes = {"lora_A": (2, 32), "lora_B": (32, 2)}
    layers = {f"{name}.{part}.weight": torch.randn(shape, generator=generator) for part, shape in shapes.items()}
    FluxPipeline.save_lora_weights(tmp_path / "lora", transformer_lora_layers=layers)
    merged = renoise.load(tmp_path / "model", lora=str(tmp_path / "lora"), num_inference_steps=1).model
    merged.pipeline.default_sample_size = pipeline.default_sample_size
    plain = own_latents(pipeline, noise(), 1.0)
    pipeline.load_lora_weights(tmp_path / "lora")
    expected = own_latents(pipeline, noise(), 1.0)
    torch.testing.assert_close(our_latents(merged, noise(), 1.0), expected, rtol=1e-4, atol=1e-4)
    assert (expected - plain).abs().max() > 1e-3


@torch.no_grad()
def test_images_are_shifted_and_scaled_as_in_the_pipeline() -> None:
    pipeline = random_flux()
    model, images = wrap_pipeline(pipeline), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    latents = model.encode_images(images)
    torch.testing.assert_close(latents, (pipeline.vae.encode(2 * images - 1).latent_dist.mean - 0.3) * 1.5)
    own = pipeline.image_processor.postprocess(pipeline.vae.decode(latents / 1.5 + 0.3).sample, output_type="pt")
    assert torch.equal(model.decode_latents(latents), own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 8}, "takes 8 channels and returns 8, and patches of its autoencoder have 16"),
        ({"pooled_projection_dim": 24}, "takes pooled embeddings of size 24, and the text encoder makes 8"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    pipeline = random_flux()
    pipeline.transformer.register_to_config(**change)
    with pytest.raises(InputError, match=rf"does not fit FluxPipeline: .*{message}"):
        wrap_pipeline(pipeline)
