from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from renoise.errors import InputWarning
from renoise.utils.library_messages import quiet_libraries, quiet_loading

REPEATED = [
    "The 'predict_dataloader' does not have many workers which may be a bottleneck. Consider increasing the value",
    "Total length of `Prefetcher` across ranks is zero. Please make sure this was your intention.",
    "`isinstance(treespec, LeafSpec)` is deprecated, use something else",
]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quiet libraries; the warnings of this test alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back at the end
        quiet_libraries()
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("message", REPEATED)
def test_what_libraries_repeat_in_every_run_is_not_shown(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn(message, UserWarning, stacklevel=1)
    assert caught == []


@pytest.mark.usefixtures("quiet")
def test_other_warnings_are_shown_and_those_for_the_user_are_one_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("the weights are newly initialized", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["the weights are newly initialized"]
    line = warnings.formatwarning(InputWarning("a.png: the prompt is too long"), InputWarning, "file.py", 3)
    assert line == "warning: a.png: the prompt is too long\n"
    assert "file.py:3" in warnings.formatwarning(UserWarning("old"), UserWarning, "file.py", 3)


@pytest.mark.parametrize("shown", [True, False])
def test_bars_of_downloads_are_shown_on_request_and_those_of_loading_never(shown: bool) -> None:
    import diffusers
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars

    before = diffusers.utils.logging.is_progress_bar_enabled()
    try:
        quiet_loading(show_downloads=shown)
        assert are_progress_bars_disabled() is not shown
        assert not diffusers.utils.logging.is_progress_bar_enabled()
    finally:
        enable_progress_bars()
        if before:
            diffusers.utils.logging.enable_progress_bar()
