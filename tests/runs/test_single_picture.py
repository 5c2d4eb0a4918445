"""`renoise predict` on one picture, whose texts are options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from renoise.outputs.manifest import Manifest

TEXTS = ["--data.prompt=a cat", "--data.edit_text=a dog", "--model.editors=[PromptSwap]"]


def test_predict_takes_one_picture_and_names_the_output_folder_after_it(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = pictures(tmp_path, "cat.png", "other.png") / "cat.png"
    monkeypatch.chdir(tmp_path)
    run = predict(picture, "null", *TEXTS)
    assert (run.status, run.warnings) == (0, []), run.err
    (row,) = Manifest(tmp_path / "out/cat").read()
    assert (row["file_name"], row["prompt"], row["edit_prompt"]) == ("cat.png", "a cat", "a dog")
    assert (tmp_path / "out/cat/edits/PromptSwap/cat.png.png").exists()
