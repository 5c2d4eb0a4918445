from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from renoise_plugins.prompt_swap import PromptSwap
from renoise_plugins.prompt_to_prompt import PromptToPrompt

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.inversion.direct import DirectInverter
from renoise.inversion.null_text import NullTextInverter, NullTextOptimization
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
REQUESTS = [
    EditRequest("a.png", PROMPTS[0], "a raccoon on a plain red background"),
    EditRequest("b.png", PROMPTS[1], "a frog on a dotted blue background"),
]
SAME = [EditRequest(each.file_name, each.prompt, each.prompt) for each in REQUESTS]
close: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def inverter(model: DiffusionModel) -> Inverter:
    return Inverter(model, Schedule.from_scheduler(model.scheduler, 4), Renoising(2), keep_trajectory=True)


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel, inverter: Inverter, latents: torch.Tensor) -> Inversion:
    return inverter.invert(latents, model.encode_prompts(PROMPTS), ["a", "b"])


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_with_no_steps_to_replace_it_is_prompt_swap(
    model: DiffusionModel, inversion: Inversion, guidance_scale: float
) -> None:
    editor = PromptToPrompt(guidance_scale=guidance_scale, cross_replace_steps=0, self_replace_steps=0)
    swapped = PromptSwap(guidance_scale=guidance_scale).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(editor.edit(model, inversion, REQUESTS), swapped, **close)


@torch.no_grad()
def test_the_same_prompt_reconstructs_whatever_is_replaced(model: DiffusionModel, inversion: Inversion) -> None:
    editor = PromptToPrompt(guidance_scale=1, cross_replace_steps=0.6, self_replace_steps=0.3)
    rebuilt = model.decode_latents(sample(model, inversion))
    torch.testing.assert_close(editor.edit(model, inversion, SAME), rebuilt, **close)


def distance(editor: PromptToPrompt, model: DiffusionModel, inversion: Inversion) -> float:
    """Of the edits from the images' reconstructions."""
    rebuilt = model.decode_latents(sample(model, inversion))
    return float((editor.edit(model, inversion, REQUESTS) - rebuilt).square().mean())


@torch.no_grad()
def test_the_more_steps_are_replaced_the_nearer_to_the_image(model: DiffusionModel, inversion: Inversion) -> None:
    shares = (0.0, 0.5, 1.0)
    editors = [PromptToPrompt(guidance_scale=2, cross_replace_steps=each, self_replace_steps=each) for each in shares]
    distances = [distance(editor, model, inversion) for editor in editors]
    assert distances == sorted(distances, reverse=True)


@torch.no_grad()
@pytest.mark.parametrize("guidance_of_inversion", [1.0, 2.0])
def test_an_images_edit_does_not_depend_on_its_neighbors(
    model: DiffusionModel, inverter: Inverter, latents: torch.Tensor, guidance_of_inversion: float
) -> None:
    inversion = inverter.invert(latents, model.encode_prompts(PROMPTS, guidance_of_inversion), ["a", "b"])
    editor = PromptToPrompt(guidance_scale=2, local_blend=True)
    together = editor.edit(model, inversion, REQUESTS)
    for row, request in enumerate(REQUESTS):
        alone = editor.edit(model, inversion.select([row]), [request])
        torch.testing.assert_close(together[row : row + 1], alone, **close)


@torch.no_grad()
def test_under_guided_inversion_the_attention_comes_from_the_images_prompt_not_from_the_empty_one(
    model: DiffusionModel, inverter: Inverter, latents: torch.Tensor
) -> None:
    guided = inverter.invert(latents, model.encode_prompts(PROMPTS, 2.0), ["a", "b"])
    editor = PromptToPrompt(guidance_scale=2, cross_replace_steps=1, self_replace_steps=1)
    torch.testing.assert_close(editor.edit(model, guided, SAME), model.decode_latents(sample(model, guided)), **close)


@torch.no_grad()
def test_weighing_a_word_changes_the_picture_and_weight_1_does_not(model: DiffusionModel, inversion: Inversion) -> None:
    rebuilt = model.decode_latents(sample(model, inversion))
    requests = [dataclasses.replace(each, edit_prompt=None) for each in REQUESTS]
    for factor, changes in ((1.0, False), (0.0, True)):
        editor = PromptToPrompt(guidance_scale=1, reweight={"Background": factor})
        assert [editor.refusal(each) for each in requests] == [None, None]
        difference = (editor.edit(model, inversion, requests) - rebuilt).abs().max()
        assert (difference > 0.02) == changes


@torch.no_grad()
def test_local_blend_of_prompts_that_agree_keeps_the_image(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    direct = DirectInverter(Inverter(model, inversion.schedule, Renoising(0))).invert(
        latents, inversion.conditioning, ["a", "b"]
    )
    edited = PromptToPrompt(guidance_scale=3, local_blend=True).edit(model, direct, SAME)
    torch.testing.assert_close(edited, model.decode_latents(latents), **close)


@torch.no_grad()
def test_local_blend_changes_less_the_higher_its_threshold(model: DiffusionModel, inversion: Inversion) -> None:
    thresholds = (0.05, 0.5, 0.95)
    editors = [PromptToPrompt(guidance_scale=2, local_blend=True, blend_threshold=each) for each in thresholds]
    changes = [distance(editor, model, inversion) for editor in editors]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] > 0


@torch.no_grad()
def test_null_text_inversions_embeddings_take_the_unconditional_branch(
    model: DiffusionModel, inverter: Inverter, latents: torch.Tensor
) -> None:
    guided = model.encode_prompts(PROMPTS, 2.0)
    inversion = NullTextInverter(inverter, NullTextOptimization(iterations=2)).invert(latents, guided, ["a", "b"])
    edited = PromptToPrompt(guidance_scale=2).edit(model, inversion, SAME)
    torch.testing.assert_close(edited, model.decode_latents(sample(model, inversion)), **close)


@torch.no_grad()
def test_it_edits_with_sdxl(tiny_sdxl: Path, latents: torch.Tensor) -> None:
    model = load_model(str(tiny_sdxl))
    inverter = Inverter(model, Schedule.from_scheduler(model.scheduler, 2), Renoising(0))
    inversion = inverter.invert(latents, model.encode_prompts(PROMPTS), ["a", "b"])
    unchanged = PromptToPrompt(guidance_scale=1).edit(model, inversion, SAME)
    torch.testing.assert_close(unchanged, model.decode_latents(sample(model, inversion)), **close)
    edited = PromptToPrompt(local_blend=True).edit(model, inversion, REQUESTS)
    assert edited.isfinite().all()
    assert (edited - unchanged).abs().max() > 0.02


def test_prompts_of_different_length_are_refused_for_a_swap_and_taken_by_a_refinement() -> None:
    request = EditRequest("a.png", "a cat on a sofa", "a cat with a hat on a sofa")
    refusal = PromptToPrompt().refusal(request)
    assert refusal is not None
    assert "have 5 and 8 words" in refusal
    assert "mode: refine" in refusal
    assert PromptToPrompt(mode="refine").refusal(request) is None


def test_a_word_to_swap_or_to_weigh_that_the_prompt_lacks_is_named() -> None:
    request = EditRequest("a.png", "a cat on a sofa", None)
    assert "none of the words to replace: dog" in str(PromptToPrompt({"dog": "fox"}).refusal(request))
    assert "none of the words to weigh: red" in str(
        PromptToPrompt({"cat": "dog"}, reweight={"red": 2}).refusal(request)
    )
    assert "no edit_text" in str(PromptToPrompt().refusal(request))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cross_replace_steps": 1.5}, r"cross_replace_steps must lie in \[0, 1\], got 1.5"),
        ({"self_replace_steps": -0.1}, r"self_replace_steps must lie in \[0, 1\], got -0.1"),
        ({"blend_threshold": 1.0}, r"blend_threshold must lie in \(0, 1\), got 1.0"),
        ({"reweight": {"red": float("nan")}}, "reweight must hold finite factors"),
        ({"reweight": {"red": 2.0}, "cross_replace_steps": 0.0}, "reweight weighs while cross_replace_steps last"),
        ({"strength": 0}, r"PromptToPrompt: strength must lie in \(0, 1\]"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptToPrompt(**options)


def test_it_asks_for_attention_and_for_the_trajectory_only_below_full_strength() -> None:
    assert PromptToPrompt().needs == {"attention"}
    assert PromptToPrompt(strength=0.5).needs == {"attention", "trajectory"}
