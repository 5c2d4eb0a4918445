from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from renoise.data import ImageRecord
from renoise.data.tar_files import TarMember
from renoise.outputs.image_files import image_file, stamp, up_to_date


def row_of(record: ImageRecord) -> dict[str, Any]:
    content = record.source.read() if isinstance(record.source, TarMember) else Path(str(record.source)).read_bytes()
    metadata = {"image_sha256": hashlib.sha256(content).hexdigest()}
    return {"file_name": record.file_name, "image_file": image_file(stamp(record), metadata)}


@pytest.fixture(params=["file", "member of an archive"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> ImageRecord:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    return ImageRecord("a.png", path if request.param == "file" else TarMember(path, 2, 5))


def replaced(tmp_path: Path, content: bytes, seconds_later: int) -> None:
    status = os.stat(tmp_path / "a")
    (tmp_path / "a").write_bytes(content)
    os.utime(tmp_path / "a", ns=(status.st_atime_ns, status.st_mtime_ns + seconds_later * 10**9))


def test_an_unchanged_file_is_not_read(tmp_path: Path, record: ImageRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    row = row_of(record)
    monkeypatch.setattr("renoise.outputs.image_files.open_file", lambda source: pytest.fail("reads"))
    assert up_to_date(row, record, stamp(record)) == row


@pytest.mark.parametrize(
    ("content", "seconds_later"), [(b"01x3456789", 1), (b"01x3456789", -1), (b"01x34567890", 0), (b"", 0)]
)
def test_other_content_is_noticed_by_size_or_by_time(
    tmp_path: Path, record: ImageRecord, content: bytes, seconds_later: int
) -> None:
    row = row_of(record)
    replaced(tmp_path, content, seconds_later)
    assert up_to_date(row, record, stamp(record)) is None


def test_the_same_content_with_another_time_keeps_its_row_with_the_new_time(
    tmp_path: Path, record: ImageRecord
) -> None:
    row = row_of(record)
    replaced(tmp_path, b"0123456789", 3)
    current = up_to_date(row, record, stamp(record))
    assert current == row_of(record) != row


def test_a_failed_image_whose_file_has_changed_is_not_up_to_date(tmp_path: Path, record: ImageRecord) -> None:
    row = {"file_name": "a.png", "image_file": image_file(stamp(record), {})}
    assert up_to_date(row, record, stamp(record)) == row
    replaced(tmp_path, b"0123456789", 1)
    assert up_to_date(row, record, stamp(record)) is None


@pytest.mark.parametrize("then", [{}, {"image_file": None}, {"image_file": 5}])
def test_a_row_that_does_not_know_its_file_stays(record: ImageRecord, then: dict[str, Any]) -> None:
    assert up_to_date(then, record, stamp(record)) == then


def test_a_removed_file_and_a_source_without_a_file_have_no_stamp(tmp_path: Path) -> None:
    class Cell:
        def read(self) -> bytes:
            return b""

    missing = ImageRecord("a.png", tmp_path / "missing")
    assert stamp(missing) is stamp(ImageRecord("b.png", Cell())) is None
    assert up_to_date({"image_file": {"bytes": 1}}, missing, None) == {"image_file": {"bytes": 1}}
