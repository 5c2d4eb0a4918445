"""What people and other programs do to an output folder, between runs and during one."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import another_run, assert_whole, times

from renoise.inversion.renoise import ReNoise
from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]
NAMES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture(params=["files", "shards"])
def options(request: pytest.FixtureRequest) -> list[str]:
    return ["--writer.images_per_shard=3"] if request.param == "shards" else []


def test_images_whose_outputs_are_missing_or_cut_off_are_inverted_again(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    assert predict(root, out).status == 0
    before = times(out, ["d.png"])
    (out / "reconstructions/a.png.png").write_bytes(b"")
    (out / "inversions/b.png.safetensors").unlink()
    os.truncate(out / "inversions/c.png.safetensors", 600)
    run = predict(root, out)
    assert (run.status, run.err) == (0, "")
    (told,) = run.warnings
    assert told.endswith(
        "outputs of 3 images (a.png, b.png, c.png) are missing or damaged; the images are inverted again"
    )
    assert_whole(out, NAMES)
    assert times(out, ["d.png"]) == before
    assert predict(root, out).warnings == []


def test_images_of_a_shard_that_is_cut_off_are_inverted_again(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out, shards = pictures(tmp_path / "photos", *NAMES), tmp_path / "out", "--writer.images_per_shard=9"
    assert predict(root, out, shards).status == 0
    rows = {row["file_name"]: row for row in Manifest(out).read()}
    os.truncate(out / rows["c.png"]["inversion"], rows["c.png"]["members"]["reconstruction"][0] + 20)
    assert len(predict(root, out, shards).warnings) == 1
    after = {row["file_name"]: row for row in Manifest(out).read()}
    assert {name for name in NAMES if after[name] == rows[name]} == {"a.png", "b.png"}
    assert predict(root, out, shards).warnings == []


def test_a_picture_that_was_replaced_under_its_name_is_inverted_again_and_a_touched_one_is_not(
    tmp_path: Path, pictures: Pictures, predict: Predict, options: list[str]
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    (root / "d.png").write_bytes(b"no picture")
    assert predict(root, out, *options).status == 0
    before = {row["file_name"]: row for row in Manifest(out).read()}
    shutil.copyfile(root / "a.png", root / "b.png")
    os.utime(root / "c.png")
    shutil.copyfile(root / "a.png", root / "d.png")
    run = predict(root, out, *options)
    assert (run.status, run.warnings) == (0, [])
    after = {row["file_name"]: row for row in Manifest(out).read()}
    assert after["a.png"] == before["a.png"]
    assert after["c.png"]["seconds"] == before["c.png"]["seconds"], "its content is the same"
    assert after["c.png"]["image_file"] != before["c.png"]["image_file"]
    assert after["b.png"]["image_file"]["sha256"] == after["a.png"]["image_file"]["sha256"]
    assert (before["d.png"]["status"], after["d.png"]["status"]) == ("failed", "ok")
    assert predict(root, out, *options).status == 0
    assert list(Manifest(out).read()) == list(after.values())


def test_a_folder_that_is_removed_during_a_run_is_told_and_the_next_run_completes_it(
    tmp_path: Path, pictures: Pictures, predict: Predict, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out, calls = pictures(tmp_path / "photos", *NAMES), tmp_path / "out", []
    invert = ReNoise.invert

    def removes(self: ReNoise, *arguments: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 3:
            while len(Manifest(out).read()) < 2:  # a thread writes the second image
                time.sleep(0.01)
            shutil.rmtree(out)
        return invert(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ReNoise, "invert", removes)
        run = predict(root, out, "--data.batch_size=1", *options)
    assert run.status == 1
    assert [told for told in run.warnings if "was removed during the run" in told]
    missing = set(NAMES) - {row["file_name"] for row in Manifest(out).read()}
    assert missing == {"a.png", "b.png"}
    shown = f"no result: {len(missing)} image{'s' if len(missing) > 1 else ''} ({', '.join(sorted(missing))})"
    assert shown in " ".join(run.out.split())
    assert predict(root, out, *options).status == 0
    assert {row["file_name"] for row in Manifest(out).read()} == set(NAMES)
    assert not (out / "run.lock").exists()


def test_a_folder_that_is_removed_while_a_batch_is_written_does_not_end_the_run(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    replace, removed = os.replace, []

    def removes(source: Path, target: Path) -> None:
        if "reconstructions" in str(target) and not removed:
            removed.append(target)
            shutil.rmtree(out)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", removes)
        assert predict(root, out).status == 0
    assert removed
    assert_whole(out, ["a.png"])
    assert predict(root, out).warnings == []


def test_outputs_that_are_removed_during_a_run_are_told(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES[:2]), tmp_path / "out"
    assert predict(root, out).status == 0
    pictures(root, "c.png")
    invert = ReNoise.invert

    def removes(self: ReNoise, *arguments: Any) -> Any:
        shutil.rmtree(out / "reconstructions")
        return invert(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ReNoise, "invert", removes)
        run = predict(root, out)
    assert run.status == 1
    assert "no result: 2 images (a.png, b.png)" in run.out
    assert predict(root, out).status == 0
    assert_whole(out, NAMES[:3])


@pytest.mark.parametrize("limit", ["1", "0.5"])
def test_a_run_that_is_limited_to_some_batches_misses_nothing(
    limit: str, tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root = pictures(tmp_path / "photos", *NAMES[:2])
    run = predict(root, tmp_path / "out", "--data.batch_size=1", f"--trainer.limit_predict_batches={limit}")
    assert (run.status, run.err) == (0, "")
    assert "no result" not in run.out


def test_two_runs_on_one_folder_are_one_line_and_change_nothing(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    with another_run(out) as other:
        (out / "captions.1.jsonl").write_text('{"file_name": "a.png", "text": "of the other run"}\n')
        run = predict(root, out, "--writer.overwrite=true", "--model.seed=4")
        assert run.status == 2
        assert run.err.startswith(
            f"error: trainer.default_root_dir: another run writes to {out} (process {other.pid} on"
        )
        assert sorted(os.listdir(out)) == ["captions.1.jsonl", "run.lock"]
        other.kill()
    assert predict(root, out).status == 0, "the lock of a killed run does not count"
    assert not (out / "run.lock").exists()


def test_a_person_s_backups_stay_as_they_are(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    old = json.dumps({**Manifest(out).read()[0], "psnr": -1})
    for name in ("manifest.old.jsonl", "captions.orig.jsonl"):
        (out / name).write_text(old + "\n")
    assert predict(root, out, "--model.seed=1", "--writer.overwrite=true").status == 0
    assert Manifest(out).read()[0]["psnr"] > 0
    for name in ("manifest.old.jsonl", "captions.orig.jsonl"):
        assert (out / name).read_text() == old + "\n"


def test_reconstructions_are_not_inverted_into_their_own_folder(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    before = times(out, ["a.png"])
    run = predict(out / "reconstructions", out, "--writer.overwrite=true")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "whose images this run reads, among its outputs; choose another folder" in run.err
    assert times(out, ["a.png"]) == before
