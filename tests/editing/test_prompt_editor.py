from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from helpers.edits import PROMPTS, REQUESTS, invert

from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.editing.prompt_editor import PromptEditor
from renoise.errors import InputWarning
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel


class Derived(PromptEditor):
    """An editor whose name must appear in the messages of its base class."""


def request(prompt: str, edit_prompt: str | None = None) -> EditRequest:
    return EditRequest("a.png", prompt, edit_prompt)


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return invert(model, steps=2)


# The edit prompt


def test_without_words_to_replace_the_edit_prompt_is_the_edit_text() -> None:
    assert PromptEditor().edit_prompt(request("a cat", "a dog")) == "a dog"
    assert PromptEditor().edit_prompt(request("a cat", "")) == ""
    assert PromptEditor().refusal(request("a cat", "")) is None


@pytest.mark.parametrize(
    ("prompt", "edited"),
    [
        ("a cat", "a dog"),
        ("Cat, CAT and cat!", "dog, dog and dog!"),
        ("a cat in a category of cats", "a dog in a category of cats"),
        ("a polar bear with a bear", "a seal with a wolf"),
        ("a cat-like bear_", "a dog-like bear_"),
        ("(cat)", "(dog)"),
        ("ünder a cat", "ünder a dog"),
        ("a <my-cat> with a cat", "a <my-cat> with a dog"),
        ("a <toy> and a bear", "a bunny and a wolf"),
        ("a <cat and a cat>", "a <dog and a dog>"),
    ],
)
def test_whole_words_are_replaced_in_upper_and_lower_case(prompt: str, edited: str) -> None:
    editor = PromptEditor(replace={"cat": "dog", "bear": "wolf", "polar bear": "seal", "<toy>": "bunny"})
    assert editor.edit_prompt(request(prompt)) == edited
    assert editor.refusal(request(prompt)) is None


def test_a_word_inside_the_token_of_a_textual_inversion_is_not_replaced() -> None:
    editor = PromptEditor(replace={"cat": "dog"})
    assert editor.edit_prompt(request("a <my-cat> and a <cat>")) is None
    assert "contains none of the words to replace: cat" in str(editor.refusal(request("a <my-cat>")))


@pytest.mark.parametrize(("word", "prompt"), [("sun", "the ſun"), ("i", "ı"), ("K", "300 \N{KELVIN SIGN}")])
def test_letters_that_match_only_when_case_is_ignored_are_replaced(word: str, prompt: str) -> None:
    assert str(PromptEditor(replace={word: "moon"}).edit_prompt(request(prompt))).endswith("moon")


def test_words_to_replace_are_not_regular_expressions() -> None:
    editor = PromptEditor(replace={"c.t": r"\1 dog", "a+": "b"})
    assert editor.edit_prompt(request("cat aa")) is None
    assert editor.edit_prompt(request("a c.t")) == r"a \1 dog"


def test_a_replacement_is_not_replaced_again() -> None:
    assert PromptEditor(replace={"cat": "dog", "dog": "cat"}).edit_prompt(request("cat and dog")) == "dog and cat"


def test_words_to_replace_take_precedence_over_the_edit_text() -> None:
    assert PromptEditor(replace={"cat": "dog"}).edit_prompt(request("a cat", "a wolf")) == "a dog"


def test_only_a_prompt_that_the_editor_made_gets_a_warning_when_it_is_cut_off(model: DiffusionModel) -> None:
    long = request(" ".join(["cat"] * 31), " ".join(["dog"] * 31))
    with pytest.warns(InputWarning, match="a.png: the prompt of Derived is longer .* cut off: 'dog'"):
        Derived(replace={"cat": "dog"}).edit_prompts(model, [long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Derived().edit_prompts(model, [long])


# Refusals and errors


def test_an_image_without_edit_text_is_refused() -> None:
    refusal = "the image has no edit_text, and Derived has no words to replace (option replace)"
    assert Derived().refusal(request("a cat")) == refusal


def test_a_prompt_without_any_word_to_replace_is_refused() -> None:
    refusal = PromptEditor(replace={"cat": "dog", "bear": "wolf"}).refusal(request("a category", "a dog"))
    assert refusal == "the prompt 'a category' contains none of the words to replace: cat, bear"


def test_editing_a_refused_image_raises_the_refusal(model: DiffusionModel) -> None:
    with pytest.raises(ValueError, match=r"Derived: a\.png: the image has no edit_text"):
        Derived().edit_prompts(model, [request("a cat")])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"replace": {}}, "replace must contain words of the prompt, or be null, got {}"),
        ({"replace": {"": "dog"}}, "replace must contain words"),
        ({"replace": {"cat": "dog", "": ""}}, "replace must contain words"),
        ({"guidance_scale": -1}, r"guidance_scale must be 1 \(no guidance; 0 means the same\) or more, got -1$"),
        ({"guidance_scale": 0.5}, r"guidance_scale must be 1 .* or more, got 0\.5$"),
        ({"guidance_scale": float("inf")}, r"guidance_scale must be 1 .* or more, got inf$"),
        ({"strength": 0}, r"strength must be in \(0, 1\], got 0"),
        ({"strength": -1}, r"strength must be in \(0, 1\], got -1"),
        ({"strength": 1.5}, r"strength must be in \(0, 1\], got 1\.5"),
        ({"strength": float("nan")}, r"strength must be in \(0, 1\], got nan"),
    ],
)
def test_an_option_out_of_range_is_an_error_with_the_editors_name(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^Derived: {problem}"):
        Derived(**options)


def test_guidance_scale_0_is_without_guidance_and_has_the_prompt(model: DiffusionModel) -> None:
    inversion, requests = invert(model, prompts=["a cat"]), [request("a cat", "a dog")]
    edits = [Derived(guidance_scale=scale).edit(model, inversion, requests) for scale in (0, 1)]
    assert edits[0].equal(edits[1])
    assert not edits[0].equal(model.decode_latents(sample(model, inversion)))


@pytest.mark.parametrize(("strength", "steps"), [(0.2, 2), (0.04, 10)])
def test_a_strength_that_leaves_no_step_is_an_error(model: DiffusionModel, strength: float, steps: int) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, steps)
    with pytest.raises(ValueError, match=f"of {steps} steps leaves no step to run; it must be {1 / steps:.2g} or more"):
        PromptEditor(strength=strength).check(model, schedule)
    PromptEditor(strength=1 / steps).check(model, schedule)


# The edited image


@torch.no_grad()
def test_an_edit_samples_under_the_edit_prompts_with_guidance(model: DiffusionModel, inversion: Inversion) -> None:
    edited = PromptEditor(replace={"background": "sky"}, guidance_scale=2).edit(model, inversion, REQUESTS)
    conditioning = model.encode_prompts([prompt.replace("background", "sky") for prompt in PROMPTS], 2.0)
    assert torch.equal(edited, model.decode_latents(sample(model, inversion, conditioning)))


@torch.no_grad()
def test_below_full_strength_an_edit_starts_from_the_trajectory(model: DiffusionModel, inversion: Inversion) -> None:
    edited = PromptEditor(strength=0.5).edit(model, inversion, REQUESTS)
    conditioning = model.encode_prompts([str(each.edit_prompt) for each in REQUESTS], 1.5)
    assert torch.equal(edited, model.decode_latents(sample(model, inversion, conditioning, strength=0.5)))
