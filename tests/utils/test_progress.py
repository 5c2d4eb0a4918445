from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from renoise.utils.progress import report, show_progress, status, track


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


def test_a_report_is_a_line_inside_the_block_only(capsys: pytest.CaptureFixture[str]) -> None:
    report("loading unet")
    with show_progress(True):
        report("loading vae")
    assert capsys.readouterr().err == "loading vae\n"


def test_the_steps_go_to_the_bar_that_the_block_names() -> None:
    seen: list[object] = []

    def bar(items: Sequence[int], description: str) -> Iterator[int]:
        for item in items:
            seen.append((description, item))
            yield item

    with show_progress(True, bar):
        assert list(track([5, 4], "inverting")) == [5, 4]
    assert seen == [("inverting", 5), ("inverting", 4)]


def test_a_status_is_shown_on_a_terminal_and_wiped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with status("starting"):
        pass
    assert capsys.readouterr().err == "", "not a terminal"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with status("starting"):
        assert capsys.readouterr().err == "starting\r"
    assert capsys.readouterr().err == "\033[K"
    monkeypatch.setenv("LOCAL_RANK", "1")
    with status("starting"):
        pass
    assert capsys.readouterr().err == "", "the first process says it"


def test_an_inner_block_that_says_nothing_keeps_the_bar_of_the_outer_one() -> None:
    seen: list[str] = []

    def bar(items: Sequence[int], description: str) -> Iterator[int]:
        seen.append(description)
        yield from items

    with show_progress(True, bar), show_progress():
        assert list(track([1, 2], "inverting")) == [1, 2]
    assert seen == ["inverting"]
