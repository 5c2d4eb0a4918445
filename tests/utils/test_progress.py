from __future__ import annotations

import pytest

from renoise.utils.progress import show_progress, track


def test_items_come_in_their_order_without_a_bar_outside_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], "steps")) == [3, 1, 2]
    assert capfd.readouterr().err == ""


def test_inside_the_block_a_bar_names_the_loop(capfd: pytest.CaptureFixture[str]) -> None:
    with show_progress(True):
        assert list(track(range(3), "Inverting")) == [0, 1, 2]
    assert "Inverting" in capfd.readouterr().err
    assert list(track(range(3), "Inverting")) == [0, 1, 2]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_by_default_the_bar_is_shown_where_stderr_is_a_terminal(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with show_progress():
        list(track(range(3), "Inverting"))
    assert ("Inverting" in capsys.readouterr().err) is terminal


def test_an_inner_block_can_switch_the_bar_off(capfd: pytest.CaptureFixture[str]) -> None:
    with show_progress(True), show_progress(False):
        list(track(range(3), "Inverting"))
    assert capfd.readouterr().err == ""
