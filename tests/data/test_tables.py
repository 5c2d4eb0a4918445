from __future__ import annotations

from pathlib import Path

import pytest

from renoise.data.files import UnreadableImageError
from renoise.data.tables import TableCell, json_value


def test_a_cell_may_contain_the_path_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    table = [{"image": {"bytes": None, "path": name}} for name in ("a.png", str(tmp_path / "a.png"), "gone.png")]
    assert TableCell(table, 0, "image", tmp_path).read() == b"content"
    assert TableCell(table, 1, "image").read() == b"content"
    with pytest.raises(UnreadableImageError, match="does not exist"):
        TableCell(table, 2, "image", tmp_path).read()


def test_the_bytes_of_a_cell_come_before_its_path() -> None:
    assert TableCell([{"image": {"bytes": b"content", "path": "gone.png"}}], 0, "image").read() == b"content"


def test_a_row_that_cannot_be_read_is_an_unreadable_image() -> None:
    with pytest.raises(UnreadableImageError, match="its row cannot be read: "):
        TableCell([], 0, "image").read()


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (float("nan"), None), (float("-inf"), None), ("x", "x")])
def test_numbers_that_json_cannot_represent_become_none(value: object, expected: object) -> None:
    assert json_value(value) == expected
