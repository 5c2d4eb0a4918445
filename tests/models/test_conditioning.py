from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from renoise.errors import InputError
from renoise.models.conditioning import Conditioning, effective_guidance_scale, guide

IMAGES = 3


def conditioning(guidance_scale: float) -> Conditioning:
    """Every tensor holds other numbers, and other numbers for each image."""
    generator = torch.Generator().manual_seed(0)
    guided = guidance_scale != 1
    return Conditioning(
        prompt_embeds=torch.randn(IMAGES, 5, 4, generator=generator),
        negative_prompt_embeds=torch.randn(IMAGES, 5, 4, generator=generator) if guided else None,
        guidance_scale=guidance_scale,
        pooled_prompt_embeds=torch.randn(IMAGES, 6, generator=generator),
        negative_pooled_prompt_embeds=torch.randn(IMAGES, 6, generator=generator) if guided else None,
        time_ids=torch.randn(IMAGES, 6, generator=generator),
    )


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("index", [[1], [2, 0], [1, 1, 2], []])
def test_select_takes_the_same_images_from_every_tensor(guidance_scale: float, index: list[int]) -> None:
    whole = conditioning(guidance_scale)
    part = whole.select(torch.tensor(index, dtype=torch.int64))
    for field in fields(Conditioning):
        before, after = getattr(whole, field.name), getattr(part, field.name)
        assert torch.equal(after, before[index]) if isinstance(before, torch.Tensor) else after == before


def test_with_guidance_the_branches_are_the_unconditional_and_the_conditional_one() -> None:
    both = conditioning(2.0)
    unconditional, conditional = both.branches
    torch.testing.assert_close(unconditional.prompt_embeds, both.negative_prompt_embeds, rtol=0, atol=0)
    torch.testing.assert_close(unconditional.pooled_prompt_embeds, both.negative_pooled_prompt_embeds, rtol=0, atol=0)
    torch.testing.assert_close(conditional.prompt_embeds, both.prompt_embeds, rtol=0, atol=0)
    torch.testing.assert_close(conditional.pooled_prompt_embeds, both.pooled_prompt_embeds, rtol=0, atol=0)
    assert both.nfe == 2
    for branch in (unconditional, conditional):
        assert (branch.nfe, branch.guidance_scale) == (1, 1.0)
        assert branch.negative_prompt_embeds is None
        assert branch.negative_pooled_prompt_embeds is None
        torch.testing.assert_close(branch.time_ids, both.time_ids, rtol=0, atol=0)


def test_without_guidance_there_is_one_branch() -> None:
    single = conditioning(1.0)
    (branch,) = single.branches
    torch.testing.assert_close(branch.prompt_embeds, single.prompt_embeds, rtol=0, atol=0)
    assert single.nfe == 1
    with pytest.raises(ValueError, match="no unconditional branch"):
        _ = single.unconditional


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 7.5])
def test_guidance_goes_from_the_unconditional_prediction_past_the_conditional_one(guidance_scale: float) -> None:
    unconditional, conditional = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guided = guide([unconditional, conditional], guidance_scale)
    expected = (1 - guidance_scale) * unconditional + guidance_scale * conditional
    torch.testing.assert_close(guided, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("given", "expected"), [(0, 1), (0.0, 1), (1.0, 1), (1.2, 1.2), (7.5, 7.5)])
def test_a_guidance_scale_of_0_is_no_guidance_as_in_diffusers(given: float, expected: float) -> None:
    assert effective_guidance_scale(given) == expected


@pytest.mark.parametrize("given", [-1.0, 1e-9, 0.5, 0.999, float("nan"), float("inf")])
def test_a_guidance_scale_that_would_weaken_the_prompt_is_an_error(given: float) -> None:
    with pytest.raises(InputError, match=rf"^guidance_scale must be 1 .*, got {given}$"):
        effective_guidance_scale(given)


def test_a_single_prediction_is_returned_as_it_is() -> None:
    prediction = torch.ones(1, 4, 8, 8)
    assert guide([prediction], guidance_scale=1.0) is prediction
