from __future__ import annotations

import os
from pathlib import Path

import pytest

from renoise.errors import InputError
from renoise.outputs.overwriting import check_apart, check_removable, remove_outputs

OURS = ["manifest.jsonl", "inversions/sub/a.png.safetensors", "reconstructions/a.png.png", "edits/Swap/a.png.png"]
OURS += ["reconstructions/a.png.png.tmp", "shards/00000-000000.tar"]
THEIRS = ["manifest.orig.jsonl", "inversions/notes.txt", "edits/Swap/best.psd", "shards/backup.tar", "own/a.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in OURS + THEIRS:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("content")
    return tmp_path / "out"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_outputs_are_removed_and_files_of_a_person_stay(folder: Path) -> None:
    check_removable(folder)
    remove_outputs(folder, [folder / "manifest.jsonl", folder / "summary.json"])
    assert files(folder) == sorted(THEIRS)
    assert not (folder / "reconstructions").exists()


@pytest.mark.parametrize("name", ["inversions", "reconstructions", "edits", "shards"])
def test_a_link_in_place_of_a_folder_of_outputs_is_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder / "moved")
    (folder / name).symlink_to(folder / "moved")
    with pytest.raises(InputError, match=rf"trainer\.default_root_dir: .*/{name} is a link"):
        check_removable(folder)


def test_a_link_inside_is_removed_and_its_target_is_not(folder: Path) -> None:
    (folder / "inversions/sub/b.png.safetensors").symlink_to(folder / "own/a.png")
    (folder / "inversions/linked").symlink_to(folder / "own")
    remove_outputs(folder, [])
    assert (folder / "own/a.png").read_text() == "content"


def test_a_folder_that_may_not_be_changed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = folder / "edits/Swap"
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != locked)  # permissions do not stop root
    with pytest.raises(InputError, match=r"trainer\.default_root_dir: .*/edits/Swap cannot be changed"):
        check_removable(folder)


@pytest.mark.parametrize("name", ["reconstructions", "edits/Swap", "inversions/sub", "linked"])
def test_images_among_the_outputs_are_refused(folder: Path, name: str) -> None:
    (folder / "linked").symlink_to(folder / "edits")
    with pytest.raises(InputError, match=r"trainer\.default_root_dir: .*, whose images this run reads, among its out"):
        check_apart(folder, folder / name, [])
    with pytest.raises(InputError, match="choose another folder"):
        check_apart(folder, None, [folder / name])


def test_images_around_and_beside_the_outputs_are_not(folder: Path) -> None:
    check_apart(folder, folder.parent, [folder.parent, folder / "own", folder])
    with pytest.raises(InputError, match=r"is also data\.root"):
        check_apart(folder, folder / ".." / os.path.basename(folder), [])
