from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_stable_diffusion_pix2pix_zero import (
    Pix2PixZeroL2Loss,
)
from helpers.edits import PROMPTS, random_latents
from helpers.pix2pix_zero import diffusers_attention, load_tiny
from renoise_plugins.pix2pix_zero.attention_distance import CrossAttentionMaps, distance_gradient

from renoise.models.attention import controlled_attention
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning


def attention_distance(layers: Sequence[torch.Tensor], source_layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns L_xa, summed over the images: an image's latents affect only its own term."""
    pairs = zip(layers, source_layers, strict=True)
    return torch.stack([(maps - source).square().sum(dim=(-2, -1)).mean(dim=1).sum() for maps, source in pairs]).sum()


def distance_and_gradient(
    model: DiffusionModel,
    source_latents: torch.Tensor,
    latents: torch.Tensor,
    source: Conditioning,
    target: Conditioning,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the distance and its gradient with respect to the latents of the edits."""
    source_maps, maps = CrossAttentionMaps(len(source_latents)), CrossAttentionMaps(len(latents))
    with controlled_attention(model.network, source_maps), torch.no_grad():
        model.predict(source_latents, 501, source)
    inputs = latents.clone().requires_grad_()
    with controlled_attention(model.network, maps), torch.enable_grad():
        model.predict(inputs, 501, target)
    distance = attention_distance(maps.layers, source_maps.layers)
    return distance.detach(), distance_gradient(maps.layers, source_maps.layers, inputs)


@pytest.mark.parametrize("checkpoint", ["tiny-sd", "tiny-sdxl"])
def test_the_distance_of_one_image_and_its_gradient_equal_those_of_diffusers(checkpoint: str) -> None:
    model = load_tiny(checkpoint)
    source_latents, latents = random_latents(seed=1, images=1), random_latents(seed=2, images=1)
    source, target = (model.encode_prompts([prompt]) for prompt in PROMPTS)
    timestep, loss, inputs = torch.tensor(501), Pix2PixZeroL2Loss(), latents.clone().requires_grad_()
    with diffusers_attention(model):
        keep_maps = {"cross_attention_kwargs": {"timestep": timestep}}
        with torch.no_grad():
            model.network(source_latents, timestep, **model.network_inputs([source]), **keep_maps)
        add_loss = {"cross_attention_kwargs": {"timestep": timestep, "loss": loss}}
        model.network(inputs, timestep, **model.network_inputs([target]), **add_loss)
    (expected,) = torch.autograd.grad(loss.loss, inputs)
    distance, gradient = distance_and_gradient(model, source_latents, latents, source, target)
    assert float(distance) > 0
    torch.testing.assert_close(distance, loss.loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_with_guidance_the_distance_is_to_the_maps_of_the_conditional_branch(model: DiffusionModel) -> None:
    source, target = model.encode_prompts(PROMPTS, 3.0), model.encode_prompts(PROMPTS[::-1], 3.0)
    latents = random_latents(seed=1), random_latents(seed=2)
    guided = distance_and_gradient(model, *latents, source, target.conditional)
    unguided = distance_and_gradient(model, *latents, source.conditional, target.conditional)
    for found, expected in zip(guided, unguided, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_gradient_of_an_image_does_not_depend_on_the_batch(model: DiffusionModel) -> None:
    source, target = model.encode_prompts(PROMPTS), model.encode_prompts(PROMPTS[::-1])
    source_latents, latents = random_latents(seed=1), random_latents(seed=2)
    total, together = distance_and_gradient(model, source_latents, latents, source, target)
    distances = []
    for image in range(2):
        index = torch.tensor([image])
        distance, gradient = distance_and_gradient(
            model, source_latents[index], latents[index], source.select(index), target.select(index)
        )
        distances.append(distance)
        torch.testing.assert_close(gradient[0], together[image], rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
    torch.testing.assert_close(torch.stack(distances).sum(), total)


def test_the_distance_of_an_image_to_itself_is_zero(model: DiffusionModel) -> None:
    source = model.encode_prompts(PROMPTS)
    distance, gradient = distance_and_gradient(model, random_latents(), random_latents(), source, source)
    assert float(distance) < 1e-6
    assert float(gradient.abs().max()) < 1e-4


def test_a_step_down_the_gradient_reduces_the_distance(model: DiffusionModel) -> None:
    source, target = model.encode_prompts(PROMPTS), model.encode_prompts(PROMPTS[::-1])
    source_latents, latents = random_latents(seed=1), random_latents(seed=2)
    before, gradient = distance_and_gradient(model, source_latents, latents, source, target)
    step_size = 1e-2 * float(before) / float(gradient.square().sum())  # 1 % to first order
    after, _ = distance_and_gradient(model, source_latents, latents - step_size * gradient, source, target)
    assert 0.98 * before < after < 0.995 * before


# Precision


def attention_of(inputs: torch.Tensor, gain: float) -> list[torch.Tensor]:
    """A network of two layers in the type of the inputs: maps of 2 heads, 3 positions and 5 tokens each."""
    generator = torch.Generator().manual_seed(3)
    layers = []
    for _ in range(2):
        weights = torch.randn(4 * 8 * 8, 2 * 3 * 5, generator=generator).to(inputs)
        layers.append((gain * inputs.flatten(1) @ weights).unflatten(1, (2, 3, 5)).softmax(dim=-1))
    return layers


def test_a_gradient_below_the_smallest_number_of_float16_survives_in_float16() -> None:
    """The maps are far from the source in one image and near it in another. float64 is the truth."""
    latents = random_latents(seed=1, images=3)
    inputs, exact_inputs = latents.clone().requires_grad_(), latents.half().double().requires_grad_()
    layers, exact_layers = attention_of(inputs.half(), gain=3e-5), attention_of(exact_inputs, gain=3e-5)
    distances = torch.tensor([2e-4, 2e-3, 2e-1])[:, None, None, None]
    noise = torch.Generator().manual_seed(5)
    source = [maps.detach() + (distances * torch.randn(maps.shape, generator=noise)).half() for maps in layers]
    slopes = [maps.detach().double() - other.double() for maps, other in zip(layers, source, strict=True)]  # 2 heads
    (expected,) = torch.autograd.grad(exact_layers, exact_inputs, slopes)
    assert expected[0].abs().max().half() == 0 < expected[2].abs().max().half()
    found = distance_gradient(layers, source, inputs)
    assert found.dtype == torch.float32
    for image in range(3):
        assert (found[image] - expected[image]).norm() < 0.01 * expected[image].norm(), f"image {image}"


@pytest.mark.parametrize("difference", [1.0, 1e-3, 1e-30])
def test_the_scale_does_not_change_the_gradient_in_float32(difference: float) -> None:
    inputs = random_latents(seed=1, images=2).requires_grad_()
    layers = attention_of(inputs, 1e-2)
    noise = torch.Generator().manual_seed(5)
    source = [maps.detach() + difference * torch.randn(maps.shape, generator=noise) for maps in layers]
    (expected,) = torch.autograd.grad(attention_distance(layers, source), inputs, retain_graph=True)
    assert distance_gradient(layers, source, inputs).equal(expected)


def test_without_a_difference_the_gradient_is_zero() -> None:
    inputs = random_latents(seed=1).requires_grad_()
    layers = attention_of(inputs, 1e-2)
    assert distance_gradient(layers, [maps.detach() for maps in layers], inputs).equal(torch.zeros_like(inputs))
