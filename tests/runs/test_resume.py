from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import assert_whole, no_file_larger_than, times

from renoise.data import ImageFolderDataModule
from renoise.inversion.renoise import ReNoise
from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [f"{number}.png" for number in range(8)]


@pytest.fixture
def no_inversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a run that inverts anything."""

    def used(*arguments: Any) -> None:
        pytest.fail("an image was inverted")

    monkeypatch.setattr(ReNoise, "invert", used)


def names(folder: Path) -> list[str]:
    return [row["file_name"] for row in Manifest(folder).read()]


def test_the_same_command_continues_a_killed_run(tmp_path: Path, pictures: Pictures, tiny_sd: Path) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    options = {
        "model.checkpoint": tiny_sd,
        "model.num_inference_steps": 25,
        "model.inversion.iterations": 0,
        "data.root": root,
        "data.resolution": 32,
        "data.batch_size": 1,
        "trainer.default_root_dir": out,
        "trainer.accelerator": "cpu",
    }
    command = [sys.executable, str(REPOSITORY / "train_like.py"), "predict"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while len(names(out)) < 2 and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = names(out)
    assert 2 <= len(finished) < len(NAMES), "killed in the middle"
    before = times(out, finished)
    assert len(before) == 2 * len(finished)

    # What a kill at the worst moments leaves behind: half a row, and half a file under its temporary name.
    half = next(name for name in NAMES if name not in finished)
    (out / "inversions" / f"{half}.safetensors.tmp").write_bytes(b"half")
    with (out / "manifest.jsonl").open("ab") as file:
        file.write(b'{"file_name": "' + half.encode())

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stderr == "", "a run without problems prints no messages"
    assert_whole(out, NAMES)
    assert names(out)[: len(finished)] == finished
    assert times(out, finished) == before
    assert "contact sheet: " in again.stdout


def test_a_complete_run_decodes_inverts_and_writes_nothing_again(
    tmp_path: Path,
    pictures: Pictures,
    predict: Predict,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES[:2]), tmp_path / "out"
    (root / "bad.png").touch()
    first = predict(root, out)
    before = times(out, NAMES[:2]) | {"manifest": (out / "manifest.jsonl").stat().st_mtime_ns}
    sheet = (out / "contact_sheet.png").read_bytes()

    def decoded_again(data: ImageFolderDataModule, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(ImageFolderDataModule, "original", decoded_again)
    request.getfixturevalue("no_inversion")
    again = predict(root, out)
    assert (first.status, again.status) == (0, 0)
    assert times(out, NAMES[:2]) | {"manifest": (out / "manifest.jsonl").stat().st_mtime_ns} == before
    assert (out / "contact_sheet.png").read_bytes() == sheet
    assert again.out.splitlines()[-2:] == first.out.splitlines()[-2:], "the summary is the same"
    assert (again.err, again.warnings, again.noise) == ("", [], [])


def test_images_added_later_are_inverted_at_any_batch_size(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "b.png", "d.png"), tmp_path / "out"
    assert predict(root, out, "--data.batch_size=1").status == 0
    before = times(out, ["b.png", "d.png"])
    pictures(root, "a.png", "c.png", "e.png")
    assert predict(root, out, "--data.batch_size=3", "--data.num_workers=1").status == 0
    assert_whole(out, ["a.png", "b.png", "c.png", "d.png", "e.png"])
    assert times(out, ["b.png", "d.png"]) == before


def test_only_images_whose_text_has_changed_are_inverted_again(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png", "b.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    before = times(out, ["a.png", "b.png"])
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a fox on a plain red background"}\n')
    assert predict(root, out).status == 0
    assert_whole(out, ["a.png", "b.png"])
    rows = {row["file_name"]: row for row in Manifest(out).read()}
    assert rows["a.png"]["prompt"] == "a fox on a plain red background"
    assert times(out, ["b.png"]) == {key: value for key, value in before.items() if key in times(out, ["b.png"])}
    assert times(out, ["a.png"]).items().isdisjoint(before.items())


def test_a_removed_image_keeps_its_row(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root, out = pictures(tmp_path / "photos", "a.png", "b.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    (root / "a.png").unlink()
    assert predict(root, out).status == 0
    assert_whole(out, ["a.png", "b.png"])


def test_a_broken_manifest_is_one_line_and_is_not_changed(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root, out = pictures(tmp_path / "photos", "a.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    broken = b"broken\n" + (out / "manifest.jsonl").read_bytes()
    (out / "manifest.jsonl").write_bytes(broken)
    run = predict(root, out)
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "manifest.jsonl, line 1 is not JSON" in run.err
    assert (out / "manifest.jsonl").read_bytes() == broken


def test_after_a_full_disk_the_next_run_continues(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    assert predict(root, tmp_path / "whole").status == 0
    size = max(path.stat().st_size for path in (tmp_path / "whole/inversions").iterdir())
    with no_file_larger_than(max(size, 2500)):  # enough for every image's files, and for some lines of the manifest
        full = predict(root, out, "--data.batch_size=2")
    assert (full.status, full.err.count("\n")) == (2, 1)
    assert "trainer.default_root_dir: " in full.err
    assert "cannot be written: File too large" in full.err
    finished = names(out)
    assert 2 <= len(finished) < len(NAMES)
    assert (out / "manifest.jsonl").read_bytes().count(b"\n") == len(finished), "no half line"
    before = times(out, finished)
    assert predict(root, out, "--data.batch_size=2").status == 0
    assert_whole(out, NAMES)
    assert times(out, finished) == before


def test_a_file_that_cannot_be_written_ends_the_run_with_one_line(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = pictures(tmp_path / "photos", "a.png", "b.png", "c.png"), tmp_path / "out"

    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target.name.startswith("b.png"):
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", refuse)  # file permissions do not stop root
        refused = predict(root, out, "--data.batch_size=1")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "cannot be written: Permission denied" in refused.err
    assert names(out) == ["a.png"]
    assert predict(root, out).status == 0
    assert_whole(out, ["a.png", "b.png", "c.png"])


def test_failed_images_are_tried_again_only_with_retry_failed(
    tmp_path: Path, pictures: Pictures, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = pictures(tmp_path / "photos", "b.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    before = times(out, ["b.png"])
    pictures(root, "a.png")

    def fail(*arguments: Any) -> None:
        raise ValueError("for once")

    with monkeypatch.context() as patch:
        patch.setattr(ReNoise, "invert", fail)
        assert predict(root, out).status == 0
    assert predict(root, out).status == 0
    assert {row["file_name"]: row["status"] for row in Manifest(out).read()} == {"a.png": "failed", "b.png": "ok"}
    assert predict(root, out, "--writer.retry_failed=true").status == 0
    assert_whole(out, ["a.png", "b.png"])
    assert times(out, ["b.png"]) == before


def test_a_finished_manifest_is_sorted_by_name(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root, out = pictures(tmp_path / "photos", "b.png", "d.png"), tmp_path / "out"
    assert predict(root, out).status == 0
    pictures(root, "a.png", "c.png")
    assert predict(root, out).status == 0
    assert names(out) == ["a.png", "b.png", "c.png", "d.png"]


def test_after_sigterm_a_run_finishes_its_batch(tmp_path: Path, pictures: Pictures, predict: Predict) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES), tmp_path / "out"
    invert = ReNoise.invert

    def terminated(self: ReNoise, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return invert(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReNoise, "invert", terminated)
        run = predict(root, out, "--data.batch_size=3")
    assert run.status == 128 + signal.SIGTERM
    assert run.err == "stopped by SIGTERM: finished images are kept; run the same command again to continue\n"
    assert names(out) == NAMES[:3]
    assert predict(root, out).status == 0
    assert_whole(out, NAMES)


def test_ctrl_c_is_one_line_and_the_same_command_continues(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out, calls = pictures(tmp_path / "photos", *NAMES), tmp_path / "out", []
    invert, handler = ReNoise.invert, signal.getsignal(signal.SIGINT)

    def interrupted(self: ReNoise, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return invert(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReNoise, "invert", interrupted)
        run = predict(root, out, "--data.batch_size=3")
    signal.signal(signal.SIGINT, handler)  # Lightning ignores the signal from the first one on
    assert run.status == 130
    assert run.err == "stopped by Ctrl-C: finished images are kept; run the same command again to continue\n"
    assert names(out) == NAMES[:3]
    assert not (out / "run.lock").exists()
    assert predict(root, out).status == 0
    assert_whole(out, NAMES)
