from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from renoise.data.files import UnreadableImageError, check_folder, read_bytes, read_json, read_part
from renoise.errors import InputError


@contextmanager
def without_privileges() -> Iterator[None]:
    """Drops the right of root to read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_without_permission_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch(mode=0)
    with without_privileges(), pytest.raises(UnreadableImageError, match="cannot be read: Permission denied"):
        read_bytes(path)


def test_a_path_that_is_not_a_regular_file_is_an_error_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for path, kind in (
            (tmp_path, "a folder"),
            (tmp_path / "pipe.png", "a named pipe"),
            (tmp_path / "s", "a socket"),
            (Path("/dev/zero"), "a device"),
        ):
            with pytest.raises(UnreadableImageError, match=f"is {kind}, not a file"):
                read_bytes(path)


def test_links_are_followed_and_broken_ones_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "good").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    assert read_bytes(tmp_path / "good") == b"data"
    for name, message in (
        ("dangling", "link to a file that does not exist"),
        ("loop", "cannot be read: Too many levels"),
        ("nothing", "^does not exist"),
    ):
        with pytest.raises(UnreadableImageError, match=message):
            read_bytes(tmp_path / name)


def test_a_file_that_is_too_large_for_memory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()

    def read(self: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(UnreadableImageError, match="cannot be read: MemoryError"):
        read_bytes(tmp_path / "a.png")


def test_read_part_ends_where_the_file_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_part(tmp_path / "a", 2, 3) == b"234"
    assert read_part(tmp_path / "a", 8, 9) == b"89"


def test_json_that_cannot_be_read_is_an_error_that_names_option_and_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{broken")
    with pytest.raises(InputError, match=r"data\.annotations: .*a\.json is not JSON: "):
        read_json(tmp_path / "a.json", "data.annotations")
    with pytest.raises(InputError, match=r"data\.annotations: .*gone\.json does not exist"):
        read_json(tmp_path / "gone.json", "data.annotations")


def test_a_missing_folder_is_an_error_that_names_option_and_folder(tmp_path: Path) -> None:
    check_folder(tmp_path, "data.images")
    with pytest.raises(InputError, match=r"data\.images: .*gone does not exist"):
        check_folder(tmp_path / "gone", "data.images")
