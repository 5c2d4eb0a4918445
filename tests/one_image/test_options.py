from __future__ import annotations

import time
from pathlib import Path

import pytest

from renoise.errors import InputError
from renoise.one_image.options import parse_edit, parse_invert


def test_the_first_text_may_be_left_out() -> None:
    options = parse_edit(["cat.jpg", "a cat", "a dog"])
    assert (options.image, options.text, options.edit_text) == (Path("cat.jpg"), "a cat", "a dog")
    options = parse_edit(["cat.jpg", " a dog "])
    assert (options.text, options.edit_text) == (None, "a dog")
    assert parse_invert(["cat.jpg"]).text is None
    assert parse_invert(["cat.jpg", "a cat"]).text == "a cat"


def test_options_may_stand_between_the_texts() -> None:
    options = parse_edit(["cat.jpg", "--strength", "0.5", "a cat", "-o", "there", "a dog"])
    assert (options.text, options.edit_text, options.strength) == ("a cat", "a dog", 0.5)
    assert options.output == Path("there")


def test_a_model_without_a_preset_has_the_settings_of_many_steps() -> None:
    assert parse_edit(["cat.jpg", "a dog"]).preset == "sdxl_turbo_fast"
    assert parse_edit(["cat.jpg", "a dog", "--model", "sd"]).preset == "sd_fast"
    assert parse_edit(["cat.jpg", "a dog", "--model", "sd", "--preset", "sd14"]).preset == "sd14"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a picture, its text and the text of the edit"),
        (["cat.jpg"], "give a picture, its text and the text of the edit"),
        (["cat.jpg", "a", "b", "c"], "give a picture, its text and the text of the edit"),
        (["cat.jpg", "a cat", " a cat"], "the picture and the edit have the same text, 'a cat'"),
        (["cat.jpg", "", "a dog"], "the text of the picture is empty"),
        (["cat.jpg", "a cat", " "], "the text of the edit is empty"),
        (["cat.jpg", "a cat", "a dog", "--preset", "sdxl_turb"], "there is no 'sdxl_turb'.*; did you mean sdxl_turbo?"),
        (["cat.jpg", "a cat", "a dog", "--stength", "1"], "--stength 1; did you mean --strength?"),
        (["cat.jpg", "a cat", "a dog", "--strength", "much"], "--strength: invalid float value: 'much'"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as raised:
        parse_edit(arguments)
    assert "\n" not in str(raised.value)


def test_the_help_is_short_and_fast(capsys: pytest.CaptureFixture[str]) -> None:
    started = time.perf_counter()
    with pytest.raises(SystemExit):
        parse_edit(["--help"])
    assert time.perf_counter() - started < 1
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 40
    for option in ("--preset", "--model", "--editor", "--guidance_scale", "--strength", "--mask", "--output"):
        assert option in text
