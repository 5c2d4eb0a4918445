from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.edits import REQUESTS, invert
from hypothesis import given
from hypothesis import strategies as st
from renoise_plugins.negative_prompt import NegativePrompt, proximal
from renoise_plugins.prompt_swap import PromptSwap

from renoise.inversion.base import Inversion
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return invert(model, ReNoise(iterations=1))


@torch.no_grad()
def test_at_guidance_scale_0_it_reconstructs(model: DiffusionModel, inversion: Inversion) -> None:
    edited = NegativePrompt(guidance_scale=0).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(edited, model.decode_latents(sample(model, inversion)), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_half_way_to_the_new_prompt_is_the_mean_of_both_predictions(model: DiffusionModel) -> None:
    inversion = invert(model, steps=1)
    (step,) = inversion.schedule
    source, target = (
        model.predict(step.input_scale * inversion.latents, step.timestep, model.encode_prompts(prompts))
        for prompts in ([each.prompt for each in REQUESTS], [str(each.edit_prompt) for each in REQUESTS])
    )
    expected = model.decode_latents(inversion.denoise(0, inversion.latents, (source + target) / 2))
    edited = NegativePrompt(guidance_scale=0.5).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(edited, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf")])
def test_a_guidance_scale_below_0_is_an_error(scale: float) -> None:
    with pytest.raises(ValueError, match=rf"^NegativePrompt: guidance_scale must be 0 or more, got {scale}"):
        NegativePrompt(guidance_scale=scale)


@torch.no_grad()
def test_at_guidance_scale_1_it_equals_prompt_swap(model: DiffusionModel, inversion: Inversion) -> None:
    edited = NegativePrompt(guidance_scale=1).edit(model, inversion, REQUESTS)
    swapped = PromptSwap(guidance_scale=1).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(edited, swapped, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_larger_guidance_scale_changes_more(model: DiffusionModel, inversion: Inversion) -> None:
    reconstructions = model.decode_latents(sample(model, inversion))
    changes = [
        float((NegativePrompt(guidance_scale=scale).edit(model, inversion, REQUESTS) - reconstructions).square().mean())
        for scale in (1, 3)
    ]
    assert changes[1] > changes[0]


# Proximal guidance

SHAPE = (4, 3, 5)
ENTRIES = 60


def distinct(seed: int) -> torch.Tensor:
    """Returns a tensor whose absolute values are 1, 2, … in random order, with random signs."""
    generator = np.random.default_rng(seed)
    sizes = generator.permutation(ENTRIES) + 1.0
    return torch.tensor(sizes * generator.choice([-1, 1], ENTRIES), dtype=torch.float32).reshape(SHAPE)


@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3), kept=st.integers(1, ENTRIES - 1))
def test_proximal_keeps_exactly_the_largest_entries_of_each_image(seeds: list[int], kept: int) -> None:
    scales = torch.tensor([10.0**image for image in range(len(seeds))])  # images do not affect one another
    difference = scales[:, None, None, None] * torch.stack([distinct(seed) for seed in seeds])
    found = proximal(difference, (ENTRIES - kept - 0.5) / (ENTRIES - 1))  # half way between two entries
    for entries, found_entries in zip(difference.flatten(1), found.flatten(1), strict=True):
        largest = entries.abs().argsort(descending=True)[:kept]
        expected = torch.zeros(ENTRIES)
        expected[largest] = entries[largest]
        assert torch.equal(found_entries, expected)


# Not smaller scales: subnormal float32 numbers are so coarse that the threshold is rounded to an entry.
SCALES = st.just(0.0) | st.floats(1e-30, 1)


@given(seed=st.integers(0, 10**6), quantile=st.floats(0, 1, exclude_max=True), scale=SCALES)
def test_proximal_keeps_the_entries_above_numpys_quantile(seed: int, quantile: float, scale: float) -> None:
    difference = scale * distinct(seed)[None]
    sizes = difference.abs().double()
    threshold = np.quantile(sizes.numpy(), quantile)
    above = sizes > threshold * (1 + 1e-5)
    near_or_above = sizes > threshold * (1 - 1e-5)  # the threshold may be an entry itself
    found = proximal(difference, quantile)
    assert torch.equal(found[above], difference[above])
    assert not found[~near_or_above].any()


def test_proximal_at_quantile_0_removes_only_the_smallest_entry() -> None:
    difference = distinct(0)[None]
    assert torch.equal(proximal(difference, 0.0), torch.where(difference.abs() == 1, 0.0, difference))


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_quantile_of_0_edits_as_no_quantile(
    model: DiffusionModel, inversion: Inversion, guidance_scale: float
) -> None:
    without = NegativePrompt(guidance_scale=guidance_scale).edit(model, inversion, REQUESTS)
    zero = NegativePrompt(guidance_scale=guidance_scale, proximal_quantile=0.0).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(zero, without, rtol=0, atol=5e-3)


@torch.no_grad()
@pytest.mark.parametrize("image", [0, 1])
def test_a_higher_quantile_is_nearer_to_the_reconstruction(
    model: DiffusionModel, inversion: Inversion, image: int
) -> None:
    alone = inversion.select([image])
    reconstruction = model.decode_latents(sample(model, alone))
    errors = [
        float((editor.edit(model, alone, [REQUESTS[image]]) - reconstruction).square().mean())
        for editor in (NegativePrompt(guidance_scale=3, proximal_quantile=quantile) for quantile in (0.99, 0.9, None))
    ]
    assert errors == sorted(errors)
    assert errors[1] < 0.8 * errors[2]


@torch.no_grad()
def test_the_quantile_of_an_image_does_not_depend_on_the_batch(model: DiffusionModel, inversion: Inversion) -> None:
    editor = NegativePrompt(guidance_scale=3, proximal_quantile=0.7)
    together = editor.edit(model, inversion, REQUESTS)
    alone = editor.edit(model, inversion.select([1]), REQUESTS[1:])
    torch.testing.assert_close(alone, together[1:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("quantile", [-0.1, 1, 2, float("nan"), float("inf")])
def test_a_quantile_out_of_range_is_an_error(quantile: float) -> None:
    with pytest.raises(ValueError, match=r"^NegativePrompt: proximal_quantile must be in \[0, 1\), or null, got"):
        NegativePrompt(proximal_quantile=quantile)
