from __future__ import annotations

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


def test_a_refused_write_names_the_output_folder_and_its_option(tmp_path: Path) -> None:
    message = rf"trainer\.default_root_dir: {tmp_path} cannot be written: File too large"
    with no_file_larger_than(10), pytest.raises(InputError, match=message), writing_to(tmp_path):
        (tmp_path / "a").write_bytes(b"a" * 100)


def test_other_errors_of_the_block_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing_to(tmp_path):
        raise KeyError("a")
