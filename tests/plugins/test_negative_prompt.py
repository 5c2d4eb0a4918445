from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from renoise_plugins.negative_prompt import NegativePrompt, proximal
from renoise_plugins.prompt_swap import PromptSwap

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.models.base import DiffusionModel

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
REQUESTS = [
    EditRequest("a.png", PROMPTS[0], "a wolf on a plain red background"),
    EditRequest("b.png", PROMPTS[1], "a frog on a dotted blue background"),
]


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    inverter = Inverter(model, Schedule.from_scheduler(model.scheduler, 4), Renoising(1), keep_trajectory=True)
    return inverter.invert(latents, model.encode_prompts(PROMPTS), ["a", "b"])


@torch.no_grad()
def test_at_guidance_0_it_reconstructs(model: DiffusionModel, inversion: Inversion) -> None:
    edited = NegativePrompt(guidance_scale=0).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(edited, model.decode_latents(sample(model, inversion)), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_at_guidance_1_it_is_prompt_swap(model: DiffusionModel, inversion: Inversion) -> None:
    edited = NegativePrompt(guidance_scale=1).edit(model, inversion, REQUESTS)
    swapped = PromptSwap(guidance_scale=1).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(edited, swapped, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_beyond_1_it_goes_further_from_the_source_than_prompt_swap_without_guidance(
    model: DiffusionModel, inversion: Inversion
) -> None:
    rebuilt = model.decode_latents(sample(model, inversion))
    near, far = (
        (NegativePrompt(guidance_scale=scale).edit(model, inversion, REQUESTS) - rebuilt).square().mean()
        for scale in (1, 3)
    )
    assert far > near


@torch.no_grad()
def test_the_weaker_the_nearer_to_the_image(model: DiffusionModel, inversion: Inversion) -> None:
    assert inversion.trajectory is not None
    image = model.decode_latents(inversion.trajectory[-1])
    errors = [
        float((editor.edit(model, inversion, REQUESTS) - image).square().mean())
        for editor in (NegativePrompt(guidance_scale=3, strength=strength) for strength in (0.25, 0.5, 1.0))
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize("editor", [PromptSwap, NegativePrompt])
def test_only_a_strength_below_1_asks_for_the_trajectory(editor: type[PromptSwap]) -> None:
    assert editor().needs == set()
    assert editor(strength=0.5).needs == {"trajectory"}


@pytest.mark.parametrize("strength", [0, -1, 1.5, float("nan")])
def test_a_strength_that_cannot_be_is_named_with_the_editor(strength: float) -> None:
    with pytest.raises(InputError, match=r"NegativePrompt: strength must lie in \(0, 1\], got"):
        NegativePrompt(strength=strength)


def test_an_image_without_a_prompt_to_go_to_is_refused_by_the_editors_own_name() -> None:
    refusal = NegativePrompt().refusal(EditRequest("a.png", "a cat", None))
    assert refusal == "the image has no edit_text and NegativePrompt no words to replace"


def test_a_weak_edit_of_an_inversion_without_its_trajectory_is_an_error(model: DiffusionModel) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    bare = Inverter(model, Schedule.from_scheduler(model.scheduler, 2), Renoising(0)).invert(
        latents, model.encode_prompts(PROMPTS[:1]), ["a"]
    )
    with pytest.raises(ValueError, match="kept its trajectory"):
        NegativePrompt(strength=0.5).edit(model, bare, REQUESTS[:1])


# Proximal guidance

SHAPE = (4, 3, 5)
ENTRIES = 60


def distinct(seed: int) -> torch.Tensor:
    """Entries whose sizes are 1, 2, … in some order, with signs of their own."""
    generator = np.random.default_rng(seed)
    sizes = generator.permutation(ENTRIES) + 1.0
    return torch.tensor(sizes * generator.choice([-1, 1], ENTRIES), dtype=torch.float32).reshape(SHAPE)


@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3), kept=st.integers(1, ENTRIES - 1))
def test_proximal_keeps_exactly_the_largest_entries_of_each_image(seeds: list[int], kept: int) -> None:
    difference = torch.stack([distinct(seed) for seed in seeds])
    difference *= torch.tensor([10.0**row for row in range(len(seeds))])[:, None, None, None]  # no image knows another
    left = proximal(difference, (ENTRIES - kept - 0.5) / (ENTRIES - 1))  # half way between two entries
    for row, image in enumerate(difference):
        largest = image.abs().flatten().argsort(descending=True)[:kept]
        expected = torch.zeros(ENTRIES)
        expected[largest] = image.flatten()[largest]
        assert torch.equal(left[row].flatten(), expected)


@given(seed=st.integers(0, 10**6), quantile=st.floats(0, 1, exclude_max=True), share=st.floats(0, 1))
def test_proximal_keeps_what_lies_above_numpys_quantile(seed: int, quantile: float, share: float) -> None:
    difference = share * distinct(seed)[None]
    least = np.quantile(difference.abs().double().numpy(), quantile)
    sizes = difference.abs().double()
    surely, perhaps = sizes > least * (1 + 1e-5), sizes > least * (1 - 1e-5)  # the quantile may be an entry itself
    left = proximal(difference, quantile)
    assert torch.equal(left[surely], difference[surely])
    assert not left[~perhaps].any()


def test_proximal_keeps_all_but_the_least_entry_at_quantile_0() -> None:
    difference = distinct(0)[None]
    assert torch.equal(proximal(difference, 0.0), torch.where(difference.abs() == 1, 0.0, difference))


@torch.no_grad()
def test_a_quantile_of_0_edits_as_without_one(model: DiffusionModel, inversion: Inversion) -> None:
    for scale in (1.0, 3.0):
        free, proximal_at_0 = (
            NegativePrompt(guidance_scale=scale, proximal_quantile=quantile).edit(model, inversion, REQUESTS)
            for quantile in (None, 0.0)
        )
        torch.testing.assert_close(proximal_at_0, free, rtol=0, atol=5e-3)


@torch.no_grad()
def test_the_higher_the_quantile_the_nearer_to_the_reconstruction(model: DiffusionModel, inversion: Inversion) -> None:
    rebuilt = model.decode_latents(sample(model, inversion))
    for row, request in enumerate(REQUESTS):
        errors = [
            float((editor.edit(model, inversion.select([row]), [request]) - rebuilt[row]).square().mean())
            for editor in (NegativePrompt(guidance_scale=3, proximal_quantile=share) for share in (0.99, 0.9, None))
        ]
        assert errors == sorted(errors)
        assert errors[1] < 0.8 * errors[2]


@torch.no_grad()
def test_the_quantile_is_each_images_own(model: DiffusionModel, inversion: Inversion) -> None:
    editor = NegativePrompt(guidance_scale=3, proximal_quantile=0.7)
    together = editor.edit(model, inversion, REQUESTS)
    alone = editor.edit(model, inversion.select([1]), REQUESTS[1:])
    torch.testing.assert_close(alone, together[1:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("quantile", [-0.1, 1, 2, float("nan"), float("inf")])
def test_a_quantile_that_cannot_be_is_named_with_the_editor(quantile: float) -> None:
    with pytest.raises(InputError, match=r"^NegativePrompt: proximal_quantile must lie in \[0, 1\) or be null, got"):
        NegativePrompt(proximal_quantile=quantile)
