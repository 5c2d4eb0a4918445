from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers.runs import another_run

from renoise.errors import InputError, InputWarning
from renoise.utils.run_lock import LOCK, lock_folder, unlock_folder


def test_a_second_run_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    with another_run(tmp_path / "out") as holder:
        with pytest.raises(InputError, match=rf"another run writes to .*/out \(process {holder.pid} on .*, since 2"):
            lock_folder(tmp_path / "out")
        assert json.loads((tmp_path / "out" / LOCK).read_text())["process"] == holder.pid


def test_the_lock_of_a_killed_run_does_not_count(tmp_path: Path) -> None:
    with another_run(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert (tmp_path / LOCK).exists()
        assert not lock_folder(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    unlock_folder(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_a_process_may_lock_a_folder_twice_by_any_of_its_paths(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert not lock_folder(tmp_path)
    assert not lock_folder(tmp_path / "link")
    unlock_folder(tmp_path / "link")
    unlock_folder(tmp_path)
    with another_run(tmp_path):
        pass


def test_a_lock_that_was_removed_with_its_folder_is_restored(tmp_path: Path) -> None:
    lock_folder(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert lock_folder(tmp_path / "out")
    assert not lock_folder(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    with another_run(tmp_path / "out"), pytest.raises(InputError, match="another run writes to"):
        lock_folder(tmp_path / "out")
    unlock_folder(tmp_path / "out")


def test_a_lock_is_not_a_link_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match=r"trainer\.default_root_dir: .* cannot be written"):
        lock_folder(tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, command: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.warns(InputWarning, match="file system without locks; start no second run on it"):
        lock_folder(tmp_path)
    unlock_folder(tmp_path)
