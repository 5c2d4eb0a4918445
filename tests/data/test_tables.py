from __future__ import annotations

from pathlib import Path

import pytest

from renoise.data.files import UnreadableImageError
from renoise.data.tables import TableCell, json_value


def test_a_cell_may_contain_the_path_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    table = [{"image": {"bytes": None, "path": name}} for name in ("a.png", str(tmp_path / "a.png"), "gone.png")]
    assert TableCell(table, 0, "image", tmp_path).read() == b"content"
    assert TableCell(table, 1, "image", tmp_path).read() == b"content"
    with pytest.raises(UnreadableImageError, match="does not exist"):
        TableCell(table, 2, "image", tmp_path).read()


@pytest.mark.parametrize(
    "name", ["../a.png", "x/../../a.png", "{}/a.png", "/etc/passwd", "link/a.png", "{}/set/../a.png"]
)
def test_a_path_out_of_the_data_set_is_not_opened(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "a.png").write_bytes(b"secret")
    (root / "link").symlink_to("..", target_is_directory=True)
    table = [{"image": {"bytes": None, "path": name.format(tmp_path)}}]
    with pytest.raises(UnreadableImageError, match=r"its path leads (out of data\.root|through a link: link)"):
        TableCell(table, 0, "image", root).read()


def test_a_path_may_be_absolute_where_the_data_set_is_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").write_bytes(b"content")
    (tmp_path / "link").symlink_to("set", target_is_directory=True)
    for folder in ("set", "link"):
        table = [{"image": {"bytes": None, "path": str(tmp_path / folder / "a.png")}}]
        assert TableCell(table, 0, "image", tmp_path / "link").read() == b"content"


def test_the_bytes_of_a_cell_come_before_its_path() -> None:
    assert TableCell([{"image": {"bytes": b"content", "path": "gone.png"}}], 0, "image").read() == b"content"


def test_a_row_that_cannot_be_read_is_an_unreadable_image() -> None:
    with pytest.raises(UnreadableImageError, match="its row cannot be read: "):
        TableCell([], 0, "image").read()


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (float("nan"), None), (float("-inf"), None), ("x", "x")])
def test_numbers_that_json_cannot_represent_become_none(value: object, expected: object) -> None:
    assert json_value(value) == expected
