from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from renoise.outputs.edit_outcomes import edit_outcomes, reasons


def test_outcomes_are_counted_by_editor_and_reason() -> None:
    rows = [
        {"edits": {"A": "no text", "B": "ok"}},
        {"edits": {"A": "too dark", "B": "no text"}},
        {"edits": {"A": "no text", "B": "ok", "C": "no mask"}},
        {"edits": {}},
        {"status": "failed"},
    ]
    assert edit_outcomes(rows) == {
        "A": Counter({"no text": 2, "too dark": 1}),
        "B": Counter({"ok": 2, "no text": 1}),
        "C": Counter({"no mask": 1}),
    }
    assert edit_outcomes([]) == {}


def test_the_most_frequent_reasons_come_first_and_rare_ones_are_summed() -> None:
    outcomes = Counter({"ok": 9, "dark": 1, "no text": 5, "small": 2, "wide": 1, "NaN": 3})
    assert reasons(outcomes) == "no text (5); NaN (3); small (2); other reasons (2)"
    assert reasons(Counter({"ok": 3})) == ""


def test_a_reason_cannot_move_the_cursor() -> None:
    assert "\x1b" not in reasons(Counter({"\x1b[2J": 1}))


def test_the_screen_says_that_no_image_has_an_edit_text(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    root = pictures(tmp_path / "set", "a.png")
    run = predict(root, tmp_path / "out", "--model.editors=[PromptSwap]")
    assert run.status == 0, run.err
    (row,) = (line for line in run.out.splitlines() if "PromptSwap" in line)
    editor, made, not_made, because = (cell.strip() for cell in row.strip("│").split("│"))
    assert (editor, made, not_made) == ("PromptSwap", "0", "1")
    assert because == "the image has no edit_text, and PromptSwap has no words to replace (option replace) (1)"
