from __future__ import annotations

from pathlib import Path

import pytest
import torch
from renoise_plugins.negative_prompt import NegativePrompt
from renoise_plugins.prompt_swap import PromptSwap

from renoise.checkpoint import load_denoiser
from renoise.denoiser import Denoiser
from renoise.editing import EditRequest
from renoise.errors import InputError
from renoise.inversion import Inversion, Inverter, sample
from renoise.schedule import Schedule
from renoise.solver import Renoising

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
REQUESTS = [
    EditRequest("a.png", PROMPTS[0], "a wolf on a plain red background"),
    EditRequest("b.png", PROMPTS[1], "a frog on a dotted blue background"),
]


@pytest.fixture(scope="module")
def denoiser(tiny_sd: Path) -> Denoiser:
    return load_denoiser(str(tiny_sd))


@pytest.fixture(scope="module")
def inversion(denoiser: Denoiser) -> Inversion:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    inverter = Inverter(denoiser, Schedule.read(denoiser.scheduler, 4), Renoising(1), keep_trajectory=True)
    return inverter.invert(latents, denoiser.encode_prompts(PROMPTS), ["a", "b"])


@torch.no_grad()
def test_at_guidance_0_it_reconstructs(denoiser: Denoiser, inversion: Inversion) -> None:
    edited = NegativePrompt(guidance_scale=0).edit(denoiser, inversion, REQUESTS)
    torch.testing.assert_close(edited, denoiser.decode_latents(sample(denoiser, inversion)), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_at_guidance_1_it_is_prompt_swap(denoiser: Denoiser, inversion: Inversion) -> None:
    edited = NegativePrompt(guidance_scale=1).edit(denoiser, inversion, REQUESTS)
    swapped = PromptSwap(guidance_scale=1).edit(denoiser, inversion, REQUESTS)
    torch.testing.assert_close(edited, swapped, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_beyond_1_it_goes_further_from_the_source_than_prompt_swap_without_guidance(
    denoiser: Denoiser, inversion: Inversion
) -> None:
    rebuilt = denoiser.decode_latents(sample(denoiser, inversion))
    near, far = (
        (NegativePrompt(guidance_scale=scale).edit(denoiser, inversion, REQUESTS) - rebuilt).square().mean()
        for scale in (1, 3)
    )
    assert far > near


@torch.no_grad()
def test_the_weaker_the_nearer_to_the_image(denoiser: Denoiser, inversion: Inversion) -> None:
    assert inversion.trajectory is not None
    image = denoiser.decode_latents(inversion.trajectory[-1])
    errors = [
        float((editor.edit(denoiser, inversion, REQUESTS) - image).square().mean())
        for editor in (NegativePrompt(guidance_scale=3, strength=strength) for strength in (0.25, 0.5, 1.0))
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize("editor", [PromptSwap, NegativePrompt])
def test_only_a_strength_below_1_asks_for_the_trajectory(editor: type[PromptSwap]) -> None:
    assert not editor().needs_trajectory
    assert editor(strength=0.5).needs_trajectory


@pytest.mark.parametrize("strength", [0, -1, 1.5, float("nan")])
def test_a_strength_that_cannot_be_is_named_with_the_editor(strength: float) -> None:
    with pytest.raises(InputError, match=r"NegativePrompt: strength must lie in \(0, 1\], got"):
        NegativePrompt(strength=strength)


def test_an_image_without_a_prompt_to_go_to_is_refused_by_the_editors_own_name() -> None:
    refusal = NegativePrompt().refusal(EditRequest("a.png", "a cat", None))
    assert refusal == "the image has no edit_text and NegativePrompt no words to replace"


def test_a_weak_edit_of_an_inversion_without_its_trajectory_is_an_error(denoiser: Denoiser) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    bare = Inverter(denoiser, Schedule.read(denoiser.scheduler, 2), Renoising(0)).invert(
        latents, denoiser.encode_prompts(PROMPTS[:1]), ["a"]
    )
    with pytest.raises(ValueError, match="kept its trajectory"):
        NegativePrompt(strength=0.5).edit(denoiser, bare, REQUESTS[:1])
