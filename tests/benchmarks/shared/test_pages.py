from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shared.pages import replace_block
from renoise import InputError


def test_a_block_is_replaced_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\n<!-- begin a -->\nold\n<!-- end a -->\ntwo\n<!-- begin b -->\nkept\n<!-- end b -->\n")
    for _ in range(2):
        replace_block(page, "a", "new\n")
        assert page.read_text() == (
            "one\n<!-- begin a -->\nnew\n<!-- end a -->\ntwo\n<!-- begin b -->\nkept\n<!-- end b -->\n"
        )


def test_a_page_without_the_marks_is_not_changed_and_the_message_names_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- begin a -->\nno end\n")
    with pytest.raises(InputError, match=r"page\.md lacks the marks <!-- begin a --> and <!-- end a -->"):
        replace_block(page, "a", "new\n")
    assert page.read_text() == "<!-- begin a -->\nno end\n"
