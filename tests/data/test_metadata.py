from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from renoise.data.metadata import read_metadata
from renoise.data.records import ImageRecord
from renoise.errors import InputError, InputWarning


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Makes a warning that a test does not expect an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def read(root: Path, content: str | bytes, folder: str = ".", files: tuple[str, ...] = ("a.png",)) -> list[ImageRecord]:
    """Returns the records of a metadata file with this content, in a folder with these (empty) files."""
    path = root / folder / "metadata.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        (path.parent / file).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / file).touch()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [record for _, record in read_metadata(path, root)]


def row(**columns: object) -> str:
    """Returns a line for a.png."""
    return json.dumps({"file_name": "a.png", **columns})


def test_text_edit_text_and_further_columns_are_read(tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(text="a cat", edit_text="a dog", mask=[1, 2], year=None))
    assert record == ImageRecord(
        "a.png", tmp_path / "a.png", "a cat", "a dog", {"mask": [1, 2], "year": None}, error=None
    )


@pytest.mark.parametrize("columns", [{}, {"text": None, "edit_text": None}])
def test_missing_text_and_null_are_no_prompt(tmp_path: Path, columns: dict[str, None]) -> None:
    (record,) = read(tmp_path, row(**columns))
    assert (record.prompt, record.edit_prompt, record.error) == (None, None, None)


def test_an_empty_text_is_a_prompt(tmp_path: Path) -> None:
    assert read(tmp_path, row(text=""))[0].prompt == ""


def test_byte_order_mark_blank_lines_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + row(text="one").encode() + b"\r\n\r\n  \n" + row(text="two").encode()
    assert [record.prompt for record in read(tmp_path, content)] == ["one", "two"]


def test_a_line_separator_inside_a_string_does_not_break_the_line(tmp_path: Path) -> None:
    (record,) = read(tmp_path, '{"file_name": "a.png", "text": "one\u2028two\x85three"}')
    assert record.prompt == "one\u2028two\x85three"


@pytest.mark.parametrize(
    "line", ["{broken", "[1, 2]", '"a.png"', "{}", '{"file_name": 3}', '{"file_name": ""}', "[" * 100_000]
)
def test_a_broken_line_is_skipped_with_a_warning(tmp_path: Path, line: str) -> None:
    with pytest.warns(InputWarning, match=r"metadata\.jsonl, line 2 is skipped"):
        records = read(tmp_path, "\n".join([row(text="one"), line, row(text="three")]))
    assert [record.prompt for record in records] == ["one", "three"]


def test_names_are_relative_to_the_folder_of_the_metadata_file(tmp_path: Path) -> None:
    (record,) = read(tmp_path, '{"file_name": "deep/a.png"}', folder="sub", files=("deep/a.png",))
    assert (record.file_name, record.source, record.error) == ("sub/deep/a.png", tmp_path / "sub/deep/a.png", None)


def test_names_are_normalized(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (record,) = read(tmp_path, '{"file_name": "./x/../../a.png"}', folder="sub", files=())
    assert (record.file_name, record.source, record.error) == ("a.png", tmp_path / "a.png", None)


@pytest.mark.parametrize("name", ["/etc/passwd", "//etc/passwd", "../a.png", "x/../../a.png", "..", "sub/../../a.png"])
def test_a_name_that_leads_out_of_the_root_is_an_error_of_its_record(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").touch()
    (record,) = read(tmp_path / "root", json.dumps({"file_name": name}))
    assert record.error is not None
    assert "leads out of data.root" in record.error


def test_dots_in_names_are_allowed(tmp_path: Path) -> None:
    assert read(tmp_path, '{"file_name": "..a.png"}', files=("..a.png",))[0].error is None


@pytest.mark.parametrize("name", ["b.png", "a.png/b.png", "nul\0.png", "x" * 5000])
def test_a_missing_file_is_an_error_of_its_record(tmp_path: Path, name: str) -> None:
    (record,) = read(tmp_path, json.dumps({"file_name": name}))
    assert record.file_name == name
    assert str(record.error).startswith("does not exist (")
    assert "metadata.jsonl, line 1" in str(record.error)


@pytest.mark.parametrize("column", ["text", "edit_text"])
@pytest.mark.parametrize("value", [3, True, ["a"], {"en": "a"}])
def test_text_must_be_a_string(tmp_path: Path, column: str, value: object) -> None:
    (record,) = read(tmp_path, row(**{column: value}))
    assert str(record.error).startswith(f"{column} must be a string or null, got {json.dumps(value)}")
    assert (record.prompt, record.edit_prompt) == (None, None)


@pytest.mark.parametrize("column", ["file_name", "text", "edit_text", "more"])
def test_half_of_a_surrogate_pair_is_an_error_with_a_printable_record(tmp_path: Path, column: str) -> None:
    (record,) = read(tmp_path, row(**{column: "half \ud83d"}))
    assert "not valid Unicode" in str(record.error)
    json.dumps([record.file_name, record.prompt, record.error, record.extra], ensure_ascii=False).encode()


def test_spaces_and_other_scripts_are_accepted(tmp_path: Path) -> None:
    (record,) = read(tmp_path, '{"file_name": "my – 猫 é.png", "text": "子猫 🐈"}', files=("my – 猫 é.png",))
    assert (record.file_name, record.prompt, record.error) == ("my – 猫 é.png", "子猫 🐈", None)


@pytest.mark.parametrize("content", [row(text="ä").encode("utf-16"), b'{"file_name": "\xe9.png"}'])
def test_a_file_that_is_not_utf_8_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"metadata\.jsonl is not UTF-8"):
        read(tmp_path, content)


def test_a_named_pipe_is_an_error_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.jsonl")
    with pytest.raises(InputError, match=r"metadata\.jsonl is a named pipe"):
        list(read_metadata(tmp_path / "metadata.jsonl", tmp_path))
