"""Runs over images without text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import assert_whole, no_file_larger_than, times

from renoise.data.captioner import Captioner
from renoise.inversion.renoise import ReNoise
from renoise.outputs.manifest import Manifest
from tiny_models.judge import JUDGE_SEED
from tiny_models.scenes import random_scenes

SCENES = random_scenes(5, JUDGE_SEED)
NAMES = [f"{number}.png" for number in range(5)]
CAPTIONS = {name: scene.caption for name, scene in zip(NAMES, SCENES, strict=True)}

Run = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five scenes. The second has a text, the third has only an edit text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, scene in zip(NAMES, SCENES, strict=True):
        scene.draw().save(folder / name)
    rows = [{"file_name": "1.png", "text": "my own words"}, {"file_name": "2.png", "edit_text": "a dog"}]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def captioned(predict: Run, tiny_blip2: Path) -> Run:
    """`captioned(root, out, *options)` is a run with the shipped captioner."""

    def run(root: Path, out: Path, *options: str) -> Any:
        more = [f"--data.captioner.checkpoint={tiny_blip2}", "--data.resolution=64", "--data.batch_size=2"]
        return predict(root, out, *more, *options)

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each call of the captioner."""
    counts: list[int] = []
    call = Captioner.__call__

    def count(self: Captioner, images: torch.Tensor) -> list[str]:
        counts.append(len(images))
        return call(self, images)

    monkeypatch.setattr(Captioner, "__call__", count)
    return counts


def prompts(out: Path) -> dict[str, str]:
    return {row["file_name"]: row["prompt"] for row in Manifest(out).read()}


def kept(out: Path) -> dict[str, str]:
    lines = (out / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["file_name"]: row["text"] for row in map(json.loads, lines)}


def test_images_without_text_are_captioned_by_batch_and_captions_are_saved(
    tmp_path: Path, root: Path, captioned: Run, asked: list[int]
) -> None:
    out = tmp_path / "out"
    run = captioned(root, out, "--model.editors=[PromptSwap]")
    assert (run.status, run.err, run.warnings, run.noise) == (0, "", [], [])
    assert_whole(out, NAMES)
    without = {name: text for name, text in CAPTIONS.items() if name != "1.png"}
    assert prompts(out) == without | {"1.png": "my own words"}
    assert kept(out) == without
    assert asked == [1, 2, 1], "one call for each batch, without images that have a text"
    assert {row["file_name"] for row in Manifest(out).read() if row["edits"]["PromptSwap"] == "ok"} == {"2.png"}


def test_no_image_is_captioned_twice_even_if_its_inversion_was_lost(
    tmp_path: Path, root: Path, captioned: Run, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, invert, calls = tmp_path / "out", ReNoise.invert, []

    def die(self: ReNoise, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return invert(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ReNoise, "invert", die)
        assert captioned(root, out).status != 0
    assert len(Manifest(out).read()) == 2
    first = sum(asked)
    assert first >= 3, "the lost batch had captions"
    before = times(out, NAMES)
    assert captioned(root, out).status == 0
    assert sum(asked) == 4
    assert_whole(out, NAMES)
    assert times(out, NAMES).items() >= before.items()


def test_a_complete_run_does_not_load_the_captioner(
    tmp_path: Path, root: Path, captioned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert captioned(root, tmp_path / "out").status == 0
    monkeypatch.setattr(Captioner, "__init__", lambda *_: pytest.fail("it was loaded"))
    assert captioned(root, tmp_path / "out").status == 0


def test_a_caption_corrected_by_hand_is_used_and_only_its_image_is_inverted_again(
    tmp_path: Path, root: Path, captioned: Run, asked: list[int]
) -> None:
    out = tmp_path / "out"
    assert captioned(root, out).status == 0
    before, count = times(out, NAMES), sum(asked)
    text = (out / "captions.jsonl").read_text(encoding="utf-8")
    (out / "captions.jsonl").write_text(text.replace(CAPTIONS["3.png"], "a better caption"), encoding="utf-8")
    assert captioned(root, out).status == 0
    assert prompts(out)["3.png"] == "a better caption"
    assert sum(asked) == count
    changed = {path for path, when in times(out, NAMES).items() if before[path] != when}
    assert {Path(path).name.split(".")[0] for path in changed} == {"3"}


def test_a_broken_line_of_captions_is_named_and_its_image_is_captioned_again(
    tmp_path: Path, root: Path, captioned: Run, asked: list[int]
) -> None:
    out = tmp_path / "out"
    assert captioned(root, out).status == 0
    lines = (out / "captions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    assert '"0.png"' in lines[0]
    (out / "captions.jsonl").write_text("".join([lines[0][:20] + "\n", *lines[1:]]), encoding="utf-8")
    (root / "new.png").write_bytes((root / "0.png").read_bytes())
    before = times(out, NAMES)
    run = captioned(root, out)
    assert run.status == 0
    assert ["captions.jsonl, line 1 is skipped: not JSON" in warning for warning in run.warnings] == [True]
    assert times(out, NAMES) == before, "finished images are not inverted again"
    assert prompts(out)["new.png"] == CAPTIONS["0.png"]
    assert (out / "captions.jsonl").read_text(encoding="utf-8").startswith(lines[0][:20] + "\n"), (
        "the broken line is kept"
    )


def test_an_empty_caption_is_saved_with_a_warning(
    tmp_path: Path, root: Path, captioned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "__call__", lambda _, images: [""] * len(images))
    run = captioned(root, tmp_path / "out")
    assert run.status == 0
    assert_whole(tmp_path / "out", NAMES)
    assert sorted(run.warnings) == [
        f"{name}: the captioner returned no text; the prompt is empty" for name in NAMES if name != "1.png"
    ]
    assert set(kept(tmp_path / "out").values()) == {""}
    assert captioned(root, tmp_path / "out").warnings == [], "the captioner is not asked again"


def test_an_offloaded_captioner_runs_only_between_inversions(
    tmp_path: Path, root: Path, captioned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverting: list[bool] = [False]
    load, call, invert = Captioner.__init__, Captioner.__call__, ReNoise.invert

    def in_the_way(self: Captioner, *arguments: Any) -> None:
        load(self, *arguments)
        self.is_offloaded = True

    def alone(self: Captioner, images: torch.Tensor) -> list[str]:
        assert not inverting[0]
        return call(self, images)

    def busy(self: ReNoise, *arguments: Any) -> Any:
        inverting[0] = True
        result = invert(self, *arguments)
        inverting[0] = False
        return result

    monkeypatch.setattr(Captioner, "__init__", in_the_way)
    monkeypatch.setattr(Captioner, "__call__", alone)
    monkeypatch.setattr(ReNoise, "invert", busy)
    assert captioned(root, tmp_path / "out", "--model.num_inference_steps=4").status == 0
    assert kept(tmp_path / "out") == {name: text for name, text in CAPTIONS.items() if name != "1.png"}


def test_a_captioner_and_a_prompt_together_are_refused(tmp_path: Path, root: Path, captioned: Run) -> None:
    run = captioned(root, tmp_path / "out", "--data.prompt=a photo")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "data.prompt must be empty where there is a captioner, got 'a photo'" in run.err


def test_a_captioner_that_cannot_be_loaded_removes_no_results(
    tmp_path: Path, root: Path, captioned: Run, predict: Run
) -> None:
    out = tmp_path / "out"
    assert predict(root, out).status == 0
    before = times(out, NAMES)
    run = captioned(root, out, "--data.captioner.checkpoint=no/such", "--writer.overwrite=true")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "data.captioner.checkpoint: no/such: no such file or folder here, " in run.err
    assert times(out, NAMES) == before


def test_overwrite_for_another_captioner_keeps_the_captions(
    tmp_path: Path, root: Path, captioned: Run, asked: list[int]
) -> None:
    out = tmp_path / "out"
    assert captioned(root, out).status == 0
    other = "--data.captioner.max_new_tokens=9"
    assert "data.captioner.max_new_tokens was 30, now 9" in captioned(root, out, other).err
    count = sum(asked)
    assert captioned(root, out, other, "--writer.overwrite=true").status == 0
    assert sum(asked) == count, "captions may have been corrected by hand"


def test_after_a_disk_is_full_of_captions_the_next_run_continues(tmp_path: Path, root: Path, captioned: Run) -> None:
    out = tmp_path / "out"
    out.mkdir()
    own = json.dumps({"file_name": "gone.png", "text": "long" * 5000}) + "\n"
    (out / "captions.jsonl").write_text(own)
    with no_file_larger_than(len(own) + 100):  # enough for one caption, and for all other files
        run = captioned(root, out)
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "captions.jsonl cannot be written: File too large" in run.err
    assert (out / "captions.jsonl").read_text(encoding="utf-8").endswith("\n"), "no half line"
    assert captioned(root, out).status == 0
    assert_whole(out, NAMES)
    assert (out / "captions.jsonl").read_text(encoding="utf-8").startswith(own)
