from __future__ import annotations

import warnings

import pytest
import torch
from renoise_plugins.prompt_swap import PromptSwap

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.errors import InputError, InputWarning
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.models.base import DiffusionModel

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]


def request(prompt: str, edit_prompt: str | None = None) -> EditRequest:
    return EditRequest("a.png", prompt, edit_prompt)


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    inverter = Inverter(model, Schedule.from_scheduler(model.scheduler, 2), Renoising(1))
    return inverter.invert(latents, model.encode_prompts(PROMPTS), ["a", "b"])


# The prompt


def test_without_words_to_replace_the_edit_text_counts() -> None:
    assert PromptSwap().edit_prompt(request("a cat", "a dog")) == "a dog"
    assert PromptSwap().edit_prompt(request("a cat", "")) == ""
    assert PromptSwap().refusal(request("a cat", "")) is None


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
    ],
)
def test_whole_words_are_replaced_whatever_their_case(prompt: str, edited: str) -> None:
    editor = PromptSwap(replace={"cat": "dog", "bear": "wolf", "polar bear": "seal"})
    assert editor.edit_prompt(request(prompt)) == edited
    assert editor.refusal(request(prompt)) is None


@pytest.mark.parametrize(("word", "prompt"), [("sun", "the ſun"), ("i", "ı"), ("K", "300 \N{KELVIN SIGN}")])
def test_letters_that_match_in_other_cases_only_are_replaced_too(word: str, prompt: str) -> None:
    assert str(PromptSwap(replace={word: "moon"}).edit_prompt(request(prompt))).endswith("moon")


def test_a_prompt_made_here_that_is_cut_off_is_told_and_an_images_own_is_left_to_the_run(model: DiffusionModel) -> None:
    long = request(" ".join(["cat"] * 31), " ".join(["dog"] * 31))
    with pytest.warns(InputWarning, match="a.png: PromptSwap's prompt is longer .* cut off: 'dog'"):
        PromptSwap(replace={"cat": "dog"}).edit_prompts(model, [long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PromptSwap().edit_prompts(model, [long])


@pytest.mark.parametrize(("strength", "steps"), [(0.2, 2), (0.04, 10)])
def test_a_strength_that_leaves_no_step_is_refused(model: DiffusionModel, strength: float, steps: int) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, steps)
    with pytest.raises(InputError, match=f"of {steps} steps is none of them; it must be {1 / steps:.2g} or more"):
        PromptSwap(strength=strength).check(model, schedule)
    PromptSwap(strength=1 / steps).check(model, schedule)


def test_words_are_no_patterns() -> None:
    editor = PromptSwap(replace={"c.t": r"\1 dog", "a+": "b"})
    assert editor.edit_prompt(request("cat aa")) is None
    assert editor.edit_prompt(request("a c.t")) == r"a \1 dog"


def test_what_was_put_in_is_not_replaced_again() -> None:
    assert PromptSwap(replace={"cat": "dog", "dog": "cat"}).edit_prompt(request("cat and dog")) == "dog and cat"


def test_words_to_replace_go_before_the_edit_text() -> None:
    assert PromptSwap(replace={"cat": "dog"}).edit_prompt(request("a cat", "a wolf")) == "a dog"


# Refusals


def test_an_image_without_edit_text_is_refused() -> None:
    assert PromptSwap().refusal(request("a cat")) == "the image has no edit_text and PromptSwap no words to replace"


def test_a_prompt_without_the_words_is_refused() -> None:
    refusal = PromptSwap(replace={"cat": "dog", "bear": "wolf"}).refusal(request("a category", "a dog"))
    assert refusal == "the prompt 'a category' holds none of the words to replace: cat, bear"


@pytest.mark.parametrize("replace", [{}, {"": "dog"}, {"cat": "dog", "": ""}])
def test_nothing_to_replace_is_a_mistake(replace: dict[str, str]) -> None:
    with pytest.raises(InputError, match="PromptSwap: replace must name words"):
        PromptSwap(replace=replace)


def test_a_guidance_scale_below_0_is_a_mistake() -> None:
    with pytest.raises(InputError, match=r"PromptSwap: guidance_scale must be 0 or more, got -0\.5"):
        PromptSwap(guidance_scale=-0.5)


# The picture


def test_the_same_prompt_without_guidance_is_the_reconstruction(model: DiffusionModel, inversion: Inversion) -> None:
    requests = [request(prompt, prompt) for prompt in PROMPTS]
    edited = PromptSwap(guidance_scale=1.0).edit(model, inversion, requests)
    torch.testing.assert_close(edited, model.decode_latents(sample(model, inversion)), rtol=0, atol=1e-5)


def test_another_prompt_gives_another_picture_of_the_same_size(model: DiffusionModel, inversion: Inversion) -> None:
    same = PromptSwap(guidance_scale=1.5).edit(model, inversion, [request(p, p) for p in PROMPTS])
    other = PromptSwap(guidance_scale=1.5).edit(model, inversion, [request(PROMPTS[0], "a lion"), request("", "")])
    assert other.shape == (2, 3, 32, 32)
    assert other.min() >= 0
    assert other.max() <= 1
    assert ((same - other).abs().amax(dim=(1, 2, 3)) > 1e-3).all()


def test_an_image_is_edited_alone_as_in_a_batch(model: DiffusionModel, inversion: Inversion) -> None:
    editor, requests = PromptSwap(replace={"background": "sky"}), [request(prompt) for prompt in PROMPTS]
    together = editor.edit(model, inversion, requests)
    alone = editor.edit(model, inversion.select([1]), requests[1:])
    torch.testing.assert_close(alone, together[1:], rtol=0, atol=1e-5)
