from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.scale_runs import damage, missing_or_broken, write_scenes
from benchmarks.scale_trials import take_over
from renoise.data import UnreadableImageError, read_image


def test_scenes_are_written_with_their_captions_in_the_forms_asked_for(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "scenes", 4, suffixes=(".png", ".jpg"))
    names = ["00000.png", "00001.jpg", "00002.png", "00003.jpg"]
    rows = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == names
    assert all(row["text"].endswith("background") for row in rows)
    for name, kind in zip(names, ("PNG", "JPEG") * 2, strict=True):
        with Image.open(root / name) as picture:
            assert picture.format == kind
    assert not (write_scenes(tmp_path / "bare", 1, captions=False) / "metadata.jsonl").exists()


def test_damage_comes_in_many_kinds_and_none_of_them_upsets_the_reader(tmp_path: Path) -> None:
    rng, outcomes = random.Random(1), set()
    root = write_scenes(tmp_path / "scenes", 120, captions=False, suffixes=(".png", ".jpg", ".webp"))
    for path in sorted(root.iterdir()):
        before = path.read_bytes()
        damage(path, rng)
        assert os.path.lexists(path)
        assert not path.is_file() or path.read_bytes() != before or not os.access(path, os.R_OK)
        try:
            assert read_image(path, 32).pixels.isfinite().all()
            outcomes.add("read all the same")
        except UnreadableImageError as error:
            outcomes.add(str(error).split(":")[0].split(" (")[0])
    assert len(outcomes) >= 7, outcomes
    assert "read all the same" in outcomes


def test_what_is_missing_broken_or_unfinished_is_found(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    assert predict(pictures(tmp_path / "photos", "a.png", "b.png", "c.png"), out).status == 0
    assert missing_or_broken(out) == []
    (out / "inversions/a.png.safetensors").write_bytes(b"half")
    (out / "reconstructions/b.png.png").unlink()
    (out / "inversions/d.png.safetensors.tmp").touch()
    problems = missing_or_broken(out)
    assert len(problems) == 3
    assert [name in problem for name, problem in zip(("d.png", "a.png", "b.png"), problems, strict=True)] == [True] * 3


def test_taking_over_finished_images_is_timed_step_by_step(tmp_path: Path) -> None:
    seconds = take_over(tmp_path / "many", 50)
    assert len(seconds) == 4
    assert all(each >= 0 for each in seconds.values())


def test_a_run_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import scale_runs

    monkeypatch.setattr(scale_runs, "start", lambda *_: Failed())
    with pytest.raises(RuntimeError, match="ended with status 2: error: no such model"):
        scale_runs.run(tmp_path, tmp_path, {})


class Failed:
    """A process that ended badly."""

    returncode = 2

    def communicate(self) -> tuple[bytes, bytes]:
        return b"", b"error: no such model"
