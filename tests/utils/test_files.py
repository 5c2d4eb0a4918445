from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers.runs import no_file_larger_than

from renoise.errors import InputError
from renoise.utils.files import write_atomically, writing_to


def test_a_file_is_written_under_a_temporary_name_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sub/a"
    write_atomically(path, b"old")

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert [each.name for each in path.parent.iterdir()] == ["a"]
    assert path.read_bytes() == b"new"


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: calls.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    replace = os.replace
    monkeypatch.setattr("os.replace", lambda *paths: (calls.append("rename"), replace(*paths)))
    write_atomically(tmp_path / "a", b"content")
    assert calls == [str(tmp_path / "a.tmp"), "rename", str(tmp_path)]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in ("a", "a.tmp"):
        (tmp_path / name).symlink_to(precious)
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()
    assert precious.read_bytes() == b"precious"


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", refuse)
    code = errno.EINVAL
    write_atomically(tmp_path / "a", b"content")
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "a", b"content")


def test_a_refused_write_names_the_output_folder_and_its_option(tmp_path: Path) -> None:
    message = rf"trainer\.default_root_dir: {tmp_path} cannot be written: File too large"
    with no_file_larger_than(10), pytest.raises(InputError, match=message), writing_to(tmp_path):
        (tmp_path / "a").write_bytes(b"a" * 100)


def test_other_errors_of_the_block_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing_to(tmp_path):
        raise KeyError("a")
