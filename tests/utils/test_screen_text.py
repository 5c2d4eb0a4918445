from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from renoise.data.records import warn_of_names
from renoise.errors import InputWarning
from renoise.utils.screen_text import MAX_ALIKE, MAX_LENGTH, WarningFormatter, on_screen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat é 猫 “b”.png", "a cat é 猫 “b”.png"),
        ("a\x1b[2J\x07b", r"a\x1b[2J\x07b"),
        ("a\nerror: b\r\t", r"a\nerror: b\r\t"),
        ("gnp.\u202etac\u200b", r"gnp.\u202etac\u200b"),
        ("\udcff\x9b31m", r"\udcff\x9b31m"),
    ],
)
def test_what_commands_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert on_screen(text) == shown


@pytest.mark.parametrize("text", ["x" * 501, "x" * 100_000, "\x1b" * 300, "\U000e0001" * 501])
def test_no_text_is_longer_than_the_limit(text: str) -> None:
    assert len(on_screen(text)) <= MAX_LENGTH


def test_the_beginning_and_the_end_of_a_long_text_stay() -> None:
    shown = on_screen("warning: " + "x" * 1000 + "; do this")
    assert shown.startswith("warning: xxx")
    assert shown.endswith("xxx; do this")


def test_warnings_of_one_kind_are_counted_after_some_and_those_of_another_kind_are_still_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    formatter = WarningFormatter()
    shown = [formatter(f"{number}.png\n is skipped", InputWarning, "a.py", 3) for number in range(1000)]
    assert shown[:2] == ["warning: 0.png\\n is skipped\n", "warning: 1.png\\n is skipped\n"]
    assert all(shown[:MAX_ALIKE])
    assert not any(shown[MAX_ALIKE:])
    assert formatter("another", InputWarning, "a.py", 4) == "warning: another\n"
    formatter.print_counts()
    formatter.print_counts()
    assert capsys.readouterr().err == "warning: 980 more warnings like one above, 1000 in all\n"


def test_warnings_of_libraries_are_shown_as_usual() -> None:
    assert "library.py:3: DeprecationWarning: old" in WarningFormatter()("old", DeprecationWarning, "library.py", 3)


def test_warnings_of_names_are_counted_by_what_they_warn_of() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_names("a.tar", "texts are left out", ["a.txt"])
        warn_of_names("a.tar", "members of one name", ["a.png"])
    assert {Path(each.filename).name for each in caught} == {Path(__file__).name}
    assert caught[0].lineno != caught[1].lineno
