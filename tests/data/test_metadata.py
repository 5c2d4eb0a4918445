from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


def read(
    root: Path,
    content: str | bytes,
    folder: str = ".",
    files: tuple[str, ...] = ("a.png",),
    name: str = "metadata.jsonl",
) -> list[ImageRecord]:
    """Returns the records of a metadata file with this content, in a folder with these (empty) files."""
    path = root / folder / name
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
    "line",
    ["{broken", "[1, 2]", '"a.png"', "5", "null", "NaN", "{}", '{"file_name": 3}', '{"file_name": ""}', "[" * 100_000],
)
def test_a_broken_line_is_skipped_with_a_warning(tmp_path: Path, line: str) -> None:
    with pytest.warns(InputWarning, match=r"metadata\.jsonl, line 2 is skipped"):
        records = read(tmp_path, "\n".join([row(text="one"), line, row(text="three")]))
    assert [record.prompt for record in records] == ["one", "three"]


@pytest.mark.parametrize("depth", [101, 300, 900, 960, 980, 990])
def test_a_row_that_is_nested_too_deeply_is_an_error_or_skipped(tmp_path: Path, depth: int) -> None:
    """Near the largest depth that can be read, writing the row again would fail."""
    line = json.dumps({"file_name": "a.png", "x": 0})[:-2] + "[" * depth + "]" * depth + "}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = read(tmp_path, "\n".join([row(text="one"), line]))
    assert records[0].prompt == "one"
    if len(records) == 2:
        assert "nested" in str(records[1].error)
        assert json.dumps(records[1].extra) == "{}"
    else:
        assert "line 2 is skipped: not JSON" in str(caught[0].message)


def test_a_key_that_occurs_twice_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match=r"line 1: keys occur twice in an object, .* \(1\): text$"):
        (record,) = read(tmp_path, '{"file_name": "a.png", "text": "one", "text": "two"}')
    assert record.prompt == "two"


def test_texts_in_columns_of_other_names_are_warned_of(tmp_path: Path) -> None:
    problem = r"metadata\.jsonl: no row has a text, and other columns of strings are not prompts: caption; name the"
    with pytest.warns(InputWarning, match=problem):
        (record,) = read(tmp_path, row(caption="a cat", label=3))
    assert (record.prompt, record.extra) == (None, {"caption": "a cat", "label": 3})
    assert read(tmp_path, row(label=3) + "\n" + row(caption="a cat", text="a dog"))[1].prompt == "a dog"


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


def test_a_row_may_name_a_link_to_a_file_but_not_a_file_behind_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.png").touch()
    root = tmp_path / "link"
    (tmp_path / "root/sub").mkdir(parents=True)
    root.symlink_to("root", target_is_directory=True)
    (root / "file.png").symlink_to("../elsewhere/b.png")
    (root / "sub/folder").symlink_to("../../elsewhere", target_is_directory=True)
    (root / "inner").symlink_to("sub", target_is_directory=True)
    names = ("file.png", "sub/folder/b.png", "inner/a.png", "sub/a.png")
    records = read(root, "\n".join(json.dumps({"file_name": name}) for name in names), files=("sub/a.png",))
    assert [(each.error or "").split("; ")[0] for each in records] == [
        "",
        "its path leads through a link: sub/folder",
        "its path leads through a link: inner",
        "",
    ]


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
    (record,) = read(tmp_path, row(**{"text": "a cat", column: "half \ud83d"}))
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


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_csv_file_has_quotes_missing_values_and_texts_of_several_lines(tmp_path: Path, bom: bytes) -> None:
    content = (
        b'file_name, text ,edit_text,number\r\na.png,"a ""big"" cat, black",a dog,007\r\n'
        b'b/c.png, "two\r\nlines",,\r\n\r\n,,,\r\nd.png\r\n./e.png,NA,null,'
    )
    records = read(tmp_path, bom + content, files=("a.png", "b/c.png", "d.png", "e.png"), name="metadata.csv")
    assert [(each.file_name, each.prompt, each.edit_prompt, each.extra, each.error) for each in records] == [
        ("a.png", 'a "big" cat, black', "a dog", {"number": "007"}, None),
        ("b/c.png", "two\r\nlines", None, {"number": None}, None),
        ("d.png", None, None, {}, None),
        ("e.png", "NA", "null", {"number": None}, None),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no column file_name; its columns are: none"),
        ("file_name;text\na.png;a cat", r"its columns are: 'file_name;text' \(columns are separated by commas\)"),
        ("name,text\na.png,a cat", "its columns are: 'name', 'text'"),
        ("file_name,text,text\na.png,a,b", "has two columns of one name"),
        ('file_name,text\na.png,"a cat\nb.png,a dog', "line 3 is not a row of CSV: unexpected end of data; check the"),
        ('file_name,text\na.png,"a cat\nb.png,"a dog"', "line 3 is not a row of CSV: ',' expected"),
        ("file_name,text\na.png,caf\xe9".encode("latin-1"), "is not UTF-8"),
        ("file_name,text\na.png,x".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_a_csv_file_that_is_no_table_of_images_is_an_error(tmp_path: Path, content: str | bytes, problem: str) -> None:
    with pytest.raises(InputError, match=rf"metadata\.csv.*{problem}"):
        read(tmp_path, content, name="metadata.csv")


def test_rows_of_csv_with_too_many_cells_fail_and_without_a_name_are_skipped(tmp_path: Path) -> None:
    content = "file_name,text\na.png,a cat, on a sofa\n,a dog\nb.png,a fox"
    with pytest.warns(InputWarning, match=r"metadata\.csv, line 3 is skipped: it has no file_name"):
        records = read(tmp_path, content, files=("a.png", "b.png"), name="metadata.csv")
    error = f"the row has 3 cells and the header 2; quote texts that contain commas ({tmp_path}/metadata.csv, line 2)"
    assert [(each.file_name, each.prompt, each.error) for each in records] == [
        ("a.png", None, error),
        ("b.png", "a fox", None),
    ]


def parquet(**columns: object) -> bytes:
    output = io.BytesIO()
    pq.write_table(pa.table(columns), output)
    return output.getvalue()


def test_a_parquet_file_has_the_same_columns(tmp_path: Path) -> None:
    content = parquet(
        file_name=["a.png", None, "b.png"],
        text=["a cat", "lost", None],
        score=[0.5, 1.0, float("nan")],
        mask=[[1, 2], [], None],
        taken=[datetime(2024, 5, 1)] * 3,
    )
    with pytest.warns(InputWarning) as caught:
        records = read(tmp_path, content, files=("a.png", "b.png"), name="metadata.parquet")
    assert [str(each.message) for each in caught] == [
        f"{tmp_path}/metadata.parquet: the column taken is left out: timestamp[us] has no form in JSON",
        f"{tmp_path}/metadata.parquet, row 2 is skipped: it has no file_name",
    ]
    assert [(each.file_name, each.prompt, each.extra) for each in records] == [
        ("a.png", "a cat", {"score": 0.5, "mask": [1, 2]}),
        ("b.png", None, {"score": None, "mask": None}),
    ]


def test_a_parquet_file_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, problem in (
        (b"PAR1 and not more", "is not a Parquet file that can be read"),
        (parquet(file_name=["a.png"])[:-9], "is not a Parquet file that can be read"),
        (parquet(image=["a.png"]), "has no column file_name; its columns are: 'image'; correct the file, or rename it"),
    ):
        with pytest.raises(InputError, match=rf"metadata\.parquet {problem}"):
            read(tmp_path, content, name="metadata.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'needs the package `pyarrow`: pip install "renoise\[datasets\]"'):
        read(tmp_path, b"", name="metadata.parquet")
