from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import REQUESTS, UNCHANGED, invert, random_latents
from renoise_plugins.prompt_swap import PromptSwap
from renoise_plugins.prompt_to_prompt import PromptToPrompt

from renoise.editing.base import EditRequest
from renoise.inversion.base import Inversion
from renoise.inversion.direct import DirectInversion
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return invert(model, ReNoise(iterations=2))


def change(editor: PromptToPrompt, model: DiffusionModel, inversion: Inversion) -> float:
    """Returns the mean squared difference between the edits and the reconstructions."""
    reconstructions = model.decode_latents(sample(model, inversion))
    return float((editor.edit(model, inversion, REQUESTS) - reconstructions).square().mean())


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_without_replaced_steps_it_equals_prompt_swap(
    model: DiffusionModel, inversion: Inversion, guidance_scale: float
) -> None:
    editor = PromptToPrompt(guidance_scale=guidance_scale, cross_replace_steps=0, self_replace_steps=0, mode="swap")
    swapped = PromptSwap(guidance_scale=guidance_scale).edit(model, inversion, REQUESTS)
    torch.testing.assert_close(editor.edit(model, inversion, REQUESTS), swapped, **CLOSE)


@torch.no_grad()
def test_more_replaced_steps_are_nearer_to_the_image(model: DiffusionModel, inversion: Inversion) -> None:
    shares = (0.0, 0.5, 1.0)
    editors = [
        PromptToPrompt(guidance_scale=2, cross_replace_steps=share, self_replace_steps=share) for share in shares
    ]
    changes = [change(editor, model, inversion) for editor in editors]
    assert changes == sorted(changes, reverse=True)


@torch.no_grad()
@pytest.mark.parametrize("guidance_of_inversion", [1.0, 2.0])
def test_local_blend_of_an_image_does_not_depend_on_the_batch(
    model: DiffusionModel, guidance_of_inversion: float
) -> None:
    inversion = invert(model, ReNoise(iterations=2), guidance_scale=guidance_of_inversion)
    editor = PromptToPrompt(guidance_scale=2, local_blend=True)
    together = editor.edit(model, inversion, REQUESTS)
    for image, request in enumerate(REQUESTS):
        alone = editor.edit(model, inversion.select([image]), [request])
        torch.testing.assert_close(together[image : image + 1], alone, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(("factor", "changes"), [(1.0, False), (0.0, True)])
def test_the_weight_of_a_word_changes_the_image_unless_it_is_1(
    model: DiffusionModel, inversion: Inversion, factor: float, changes: bool
) -> None:
    requests = [dataclasses.replace(request, edit_prompt=None) for request in REQUESTS]
    editor = PromptToPrompt(guidance_scale=1, reweight={"Background": factor})
    assert [editor.refusal(request) for request in requests] == [None, None]
    reconstructions = model.decode_latents(sample(model, inversion))
    difference = (editor.edit(model, inversion, requests) - reconstructions).abs().max()
    assert (difference > 0.02) == changes


@torch.no_grad()
def test_local_blend_without_changed_words_keeps_the_image(model: DiffusionModel) -> None:
    inversion = invert(model, DirectInversion())
    edited = PromptToPrompt(guidance_scale=3, local_blend=True).edit(model, inversion, UNCHANGED)
    torch.testing.assert_close(edited, model.decode_latents(random_latents()), **CLOSE)


@torch.no_grad()
def test_local_blend_changes_less_with_a_higher_threshold(model: DiffusionModel, inversion: Inversion) -> None:
    thresholds = (0.05, 0.5, 0.95)
    editors = [PromptToPrompt(guidance_scale=2, local_blend=True, blend_threshold=each) for each in thresholds]
    changes = [change(editor, model, inversion) for editor in editors]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] > 0


@torch.no_grad()
def test_it_edits_with_sdxl(tiny_sdxl: Path) -> None:
    model = load_model(str(tiny_sdxl))
    inversion = invert(model, steps=2)
    unchanged = PromptToPrompt(guidance_scale=1).edit(model, inversion, UNCHANGED)
    torch.testing.assert_close(unchanged, model.decode_latents(sample(model, inversion)), **CLOSE)
    edited = PromptToPrompt(local_blend=True).edit(model, inversion, REQUESTS)
    assert edited.isfinite().all()
    assert (edited - unchanged).abs().max() > 0.02


def test_prompts_of_different_length_are_refused_by_swap_and_accepted_by_refine() -> None:
    request = EditRequest("a.png", "a cat on a sofa", "a cat with a hat on a sofa")
    refusal = PromptToPrompt().refusal(request)
    assert refusal is not None
    assert "have 5 and 8 words" in refusal
    assert "mode: refine" in refusal
    assert PromptToPrompt(mode="refine").refusal(request) is None


def test_a_word_that_the_prompt_lacks_is_named() -> None:
    request = EditRequest("a.png", "a cat on a sofa", None)
    assert "none of the words to replace: dog" in str(PromptToPrompt({"dog": "fox"}).refusal(request))
    editor = PromptToPrompt({"cat": "dog"}, reweight={"red": 2})
    assert editor.refusal(request) == "the prompt 'a dog on a sofa' does not contain these words of reweight: red"
    assert "no edit_text" in str(PromptToPrompt().refusal(request))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mode": "swop"}, "mode must be swap or refine, got 'swop'"),
        ({"cross_replace_steps": 1.5}, r"cross_replace_steps must be in \[0, 1\], got 1.5"),
        ({"self_replace_steps": -0.1}, r"self_replace_steps must be in \[0, 1\], got -0.1"),
        ({"blend_threshold": 1.0}, r"blend_threshold must be in \(0, 1\), got 1.0"),
        ({"reweight": {"red": float("nan")}}, "reweight must contain finite factors"),
        ({"reweight": {"red": 2.0}, "cross_replace_steps": 0.0}, "reweight needs cross_replace_steps above 0, got 0"),
    ],
)
def test_an_option_out_of_range_is_an_error_with_the_editors_name(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^PromptToPrompt: {problem}"):
        PromptToPrompt(**options)
