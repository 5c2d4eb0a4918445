from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from helpers.demo import CAT

from renoise.demo.studio import Studio
from renoise.demo.turns import Progress
from renoise.demo.visitor import Kind
from renoise.demo.visitors import Visitors
from renoise.errors import InputError

pytest.importorskip("gradio", reason='the page needs gradio: pip install ".[demo]"')

FAILURES = {
    "a mistake of the visitor": (InputError("the text is <empty>"), "the text is &lt;empty&gt;"),
    "a mistake of ours": (
        RuntimeError("/home/secret: broken"),
        "Something went wrong on the server. Its log says what.",
    ),
}


@pytest.fixture(scope="module")
def page(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from renoise.demo.page import Page

    return Page(Visitors(studio, tmp_path_factory.mktemp("visitors")))


@pytest.mark.parametrize("case", FAILURES)
def test_a_task_that_fails_says_so_and_can_be_begun_again(
    case: str, page: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    error, message = FAILURES[case]
    visitor = page.visitors.of(case)
    visitor.open(CAT)
    visitor.wait(Kind.INVERT)

    def fail() -> Generator[Progress, None, dict[Any, Any]]:
        yield Progress("inverting", 0, 1)
        raise error

    *_, shown = page._run(visitor, fail)
    assert message in shown[page.display.inversion.told]
    assert "secret" not in shown[page.display.inversion.told]
    assert ("secret" in capsys.readouterr().err) == isinstance(error, RuntimeError)
    assert shown[page.display.inversion.start]["interactive"]
    assert not shown[page.display.inversion.stop]["interactive"]


def test_every_event_is_hidden_from_the_api_and_only_tasks_on_the_model_share_a_queue(page: Any) -> None:
    functions = list(page.blocks.fns.values())
    assert {each.api_visibility for each in functions if each.targets[0][1] != "unload"} == {"private"}
    queued = [each for each in functions if each.concurrency_id == "model"]
    assert len(queued) == 3
    assert {each.concurrency_limit for each in queued} == {1}
    assert any(each.targets[0][1] == "unload" for each in functions)


def test_the_archive_of_a_visitor_who_leaves_is_removed(page: Any, tmp_path: Path) -> None:
    visitor = page.visitors.of("leaves")
    visitor.open(CAT)
    visitor.archive.parent.mkdir()
    visitor.archive.write_bytes(b"")
    page.visitors.leave("leaves")
    assert not visitor.archive.parent.exists()
