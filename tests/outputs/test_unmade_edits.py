from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from renoise.outputs.unmade_edits import unmade_edits


def test_editors_without_any_edit_are_listed_with_their_most_frequent_reason() -> None:
    rows = [
        {"edits": {"A": "no text", "B": "ok"}},
        {"edits": {"A": "too dark", "B": "no text"}},
        {"edits": {"A": "no text", "B": "no text", "C": "no mask"}},
        {"edits": {}},
        {},
    ]
    assert unmade_edits(rows) == [
        "no edits by A: no text (2 of 3 images, the others for other reasons)",
        "no edits by C: no mask",
    ]
    assert unmade_edits([]) == []


def test_the_screen_says_that_no_image_has_an_edit_text(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "set", "a.png")
    run = predict(root, tmp_path / "out", "--model.editors=[PromptSwap]")
    assert run.status == 0, run.err
    assert "no edits by PromptSwap: the image has no edit_text, and PromptSwap has no words to replace" in run.out
