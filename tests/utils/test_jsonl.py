from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import no_file_larger_than
from hypothesis import given
from hypothesis import strategies as st

from renoise.utils.jsonl import JsonLines, as_lines

ROWS = [{"file_name": f"{number}.png", "n": number} for number in range(6)]


def contents(file: JsonLines) -> list[bytes]:
    return [line for _, _, line in file.lines()]


def test_every_process_appends_to_its_own_file(tmp_path: Path) -> None:
    for rank in (0, 1, 11):
        JsonLines(tmp_path / "rows.jsonl", rank).append([{"rank": rank}])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "rows.jsonl": b'{"rank": 0}\n',
        "rows.1.jsonl": b'{"rank": 1}\n',
        "rows.11.jsonl": b'{"rank": 11}\n',
    }


def test_every_process_reads_the_lines_of_all_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    for rank in (1, 0, 2):
        JsonLines(tmp_path / "rows.jsonl", rank).append([{"rank": rank}])
    for rank in range(3):
        assert contents(JsonLines(tmp_path / "rows.jsonl", rank)) == [as_lines([{"rank": each}]) for each in range(3)]


def test_other_files_of_the_folder_are_not_read(tmp_path: Path) -> None:
    for name in ("rows.txt", "other.1.jsonl", "rowsx.1.jsonl", "rows.jsonl.tmp"):
        (tmp_path / name).write_bytes(b"{}\n")
    assert contents(JsonLines(tmp_path / "rows.jsonl")) == []


BACKUPS = ["rows.orig.jsonl", "rows.old.jsonl", "rows.1.old.jsonl", "rows.-1.jsonl", "rows.1 (copy).jsonl"]
BACKUPS += ["rows.0.jsonl", "rows.01.jsonl", "rows.².jsonl", "rows.1.jsonl.bak", "Rows.1.jsonl", "rows..jsonl"]


@pytest.mark.parametrize("name", BACKUPS)
def test_a_backup_that_a_person_made_is_neither_read_nor_removed(tmp_path: Path, name: str) -> None:
    for rank in (0, 2, 10):
        JsonLines(tmp_path / "rows.jsonl", rank).append([{"rank": rank}])
    (tmp_path / name).write_bytes(b'{"old": true}')
    file = JsonLines(tmp_path / "rows.jsonl")
    assert [path.name for path in file.files] == ["rows.jsonl", "rows.2.jsonl", "rows.10.jsonl"]
    file.repair()
    file.merge(b"".join(contents(file)))
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", name}
    assert (tmp_path / name).read_bytes() == b'{"old": true}'
    assert file.path.read_bytes() == as_lines([{"rank": rank} for rank in (0, 2, 10)])


def test_a_folder_of_a_process_s_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.1.jsonl").mkdir()
    JsonLines(tmp_path / "rows.jsonl").merge(b"")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "rows.1.jsonl"}


def test_appended_rows_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").read_bytes()))
    JsonLines(tmp_path / "rows.jsonl").append(ROWS)
    assert synced == [as_lines(ROWS)]


def test_merging_leaves_one_file(tmp_path: Path) -> None:
    for rank in range(3):
        JsonLines(tmp_path / "rows.jsonl", rank).append(ROWS[rank::3])
    file = JsonLines(tmp_path / "rows.jsonl")
    file.merge(as_lines(ROWS))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert file.path.read_bytes() == as_lines(ROWS)


def test_merging_the_same_content_does_not_touch_the_file(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "rows.jsonl")
    file.append(ROWS)
    before = file.path.stat().st_mtime_ns
    file.merge(as_lines(ROWS))
    assert file.path.stat().st_mtime_ns == before


def test_merging_nothing_makes_an_empty_file(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "rows.jsonl")
    file.merge(b"")
    assert file.path.read_bytes() == b""


@given(cut=st.integers(0, len(as_lines(ROWS))), rank=st.integers(0, 2))
def test_wherever_a_file_is_cut_off_complete_lines_stay_and_the_next_row_starts_a_new_line(
    cut: int, rank: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = JsonLines(tmp_path_factory.mktemp("cut") / "rows.jsonl", rank)
    file.own.write_bytes(as_lines(ROWS)[:cut])
    whole = as_lines(ROWS)[:cut].splitlines(keepends=True)
    whole = [line for line in whole if line.endswith(b"\n")]
    assert contents(file) == whole
    file.repair()
    file.append([{"next": True}])
    assert contents(file) == [*whole, b'{"next": true}\n']


@pytest.mark.parametrize("rank", [0, 1])
def test_on_a_full_disk_none_of_the_rows_is_written(tmp_path: Path, rank: int) -> None:
    file = JsonLines(tmp_path / "rows.jsonl", rank)
    file.append([{"text": "a" * 300}])
    with no_file_larger_than(400), pytest.raises(OSError, match="File too large"):
        file.append([{"text": "b" * 30}, {"text": "c" * 300}])
    assert contents(file) == [as_lines([{"text": "a" * 300}])]
    assert file.own.read_bytes().endswith(b"\n"), "the part that was written is removed"
    file.append([{"text": "d"}])
    assert contents(file)[1:] == [as_lines([{"text": "d"}])]
