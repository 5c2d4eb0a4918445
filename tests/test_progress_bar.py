from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import RichProgressBar

from renoise.progress_bar import ProgressLines, StepProgressBar

Predict = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path, pictures: Callable[..., Path]) -> Path:
    return pictures(tmp_path / "photos", "a.png", "b.png")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `renoise` take stderr for a terminal, and shows every step, however fast."""
    monkeypatch.setattr("renoise.predict.is_terminal", lambda: True)
    monkeypatch.setattr("renoise.utils.progress.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich's own question
    monkeypatch.setattr(StepProgressBar, "refresh", lambda bar, hard=False: RichProgressBar.refresh(bar, hard=True))


SHOWN = ("--trainer.enable_progress_bar=true", "--data.batch_size=2")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_what_is_loaded_batches_steps_and_calls(
    photos: Path, tmp_path: Path, predict: Predict
) -> None:
    run = predict(photos, tmp_path / "out", *SHOWN, "--model.inversion.iterations=1")
    assert run.status == 0
    assert re.search(r"loading \S+tiny-sd \([\d.]+ MB\) …\n", run.err)
    assert "  loaded unet (" in run.err
    assert re.search(r"Predicting .* 0/1 ", run.err)
    assert re.search(r"inverting \(2 calls\) .* 1/2 ", run.err), "K + 1 calls for each step"
    assert re.search(r"sampling \(5 calls\) .* 1/2 ", run.err), "after the inversion's 2 · (K + 1)"
    assert "Predicting" not in run.out
    assert all(len(line) <= 80 for line in re.sub(r"\x1b\[[\d;?]*\w", "", run.err).splitlines() if "(" in line[:14])


@pytest.mark.usefixtures("terminal")
def test_the_progress_bar_can_be_switched_off(photos: Path, tmp_path: Path, predict: Predict) -> None:
    run = predict(photos, tmp_path / "out")  # --trainer.enable_progress_bar=false
    assert (run.status, run.err) == (0, "starting …\r\x1b[K")


def test_nothing_is_shown_in_a_short_run_whose_output_is_piped(photos: Path, tmp_path: Path, predict: Predict) -> None:
    run = predict(photos, tmp_path / "out", *SHOWN)
    assert (run.status, run.err) == (0, "")
    assert "Predicting" not in run.out


def test_a_piped_run_prints_a_line_for_batches_that_take_long(
    photos: Path, tmp_path: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("renoise.progress_bar.SECONDS_BETWEEN_LINES", 0)
    run = predict(photos, tmp_path / "out", "--trainer.enable_progress_bar=true", "--data.batch_size=1")
    assert re.fullmatch(r"1 of 2 batches, about 0:00:\d\d left\n2 of 2 batches, about 0:00:00 left\n", run.err)


def test_a_disabled_process_prints_no_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("renoise.progress_bar.SECONDS_BETWEEN_LINES", 0)
    trainer, lines = SimpleNamespace(num_predict_batches=[2]), ProgressLines()
    lines.on_predict_start(trainer, None)  # type: ignore[arg-type]
    lines.disable()
    lines.on_predict_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
    lines.enable()
    lines.on_predict_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
    assert capsys.readouterr().err == "1 of 2 batches, about 0:00:00 left\n"
