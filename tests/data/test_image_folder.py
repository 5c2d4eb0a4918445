from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from helpers.data_sets import gray_levels, image_folder, write_gray_images, write_metadata
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.errors import InputError, InputWarning


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Makes a warning that a test does not expect an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def names(root: Path, **options: Any) -> list[str]:
    """Returns the file names of the records."""
    return [record.file_name for record in image_folder(root, **options).records]


def test_images_are_found_in_all_folders_sorted_by_name(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "b.png", "a/z.JPG", "a.webp", "a/deep/b.tiff", "Z.gif", "two words é 猫.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "page.pdf").touch()
    assert names(tmp_path) == ["Z.gif", "a.webp", "a/deep/b.tiff", "a/z.JPG", "b.png", "two words é 猫.png"]


def test_one_stem_with_two_suffixes_is_two_images(tmp_path: Path) -> None:
    assert names(write_gray_images(tmp_path, "a.png", "a.jpg")) == ["a.jpg", "a.png"]


# One picture


def test_a_root_may_be_one_picture_and_takes_its_texts_from_metadata_beside_it(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "b.png", "sub/c.png")
    row = {"file_name": "b.png", "text": "a cat", "edit_text": "a dog", "year": 2020}
    write_metadata(tmp_path, {"file_name": "a.png", "text": "a bear"}, row, {"file_name": "gone.png"})
    data = image_folder(tmp_path / "b.png")
    (record,) = data.records
    assert (record.file_name, record.prompt, record.edit_prompt) == ("b.png", "a cat", "a dog")
    assert record.extra == {"year": 2020}
    assert gray_levels(data) == {"b.png": 20}
    (record,) = image_folder(tmp_path / "sub/c.png", prompt="a fox").records
    assert (record.file_name, record.prompt, record.edit_prompt) == ("c.png", "a fox", None)


def test_the_mask_of_one_picture_is_read(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "b.png", "mask.png")
    write_metadata(tmp_path, {"file_name": "a.png", "text": "a cat", "mask": "mask.png"})
    mask = image_folder(tmp_path / "a.png").mask("a.png")
    assert mask is not None
    assert not mask.any()


@pytest.mark.parametrize(("name", "reason"), [("a.txt", "files such as"), ("a.psd", "convert them to JPEG or PNG")])
def test_a_root_that_is_a_file_but_no_picture_is_an_error(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"data\.root: .*/{name} is neither a folder nor a picture.*{reason}"):
        image_folder(tmp_path / name)


# Folders


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    assert names(write_gray_images(tmp_path, "a.png", "._a.png", ".cache/b.png", "c/.d/e.png")) == ["a.png"]


def test_links_to_folders_are_not_followed_but_links_to_images_are(tmp_path: Path) -> None:
    write_gray_images(tmp_path / "root", "a.png")
    write_gray_images(tmp_path / "elsewhere", "b.png")
    (tmp_path / "root" / "loop").symlink_to("..", target_is_directory=True)
    (tmp_path / "root" / "link.png").symlink_to("../elsewhere/b.png")
    (tmp_path / "root" / "folder.png").symlink_to("../elsewhere", target_is_directory=True)
    assert names(tmp_path / "root") == ["a.png", "link.png"]


def test_the_output_folder_inside_the_root_is_left_out(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "out/reconstructions/a.png", "outer/b.png")
    write_metadata(tmp_path / "out", {"file_name": "reconstructions/a.png"})
    assert names(tmp_path, output=tmp_path / "out") == ["a.png", "outer/b.png"]
    assert names(tmp_path, output=tmp_path / "x" / ".." / "out") == ["a.png", "outer/b.png"]


@pytest.mark.parametrize("output", [".", ".."])
def test_no_image_is_left_out_if_the_output_folder_is_or_contains_the_root(tmp_path: Path, output: str) -> None:
    root = write_gray_images(tmp_path / "root", "a.png", "b/c.png")
    assert names(root, output=root / output) == ["a.png", "b/c.png"]


def test_a_folder_that_cannot_be_listed_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gray_images(tmp_path, "a.png", "locked/b.png")
    listing = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(InputWarning, match="locked is left out: Permission denied"):
        assert names(tmp_path) == ["a.png"]


def test_rows_give_images_their_prompts_and_the_others_get_the_default(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "sub/b.png", "sub/c.png")
    write_metadata(tmp_path, {"file_name": "a.png", "text": "A", "edit_text": "E", "mask": 7})
    write_metadata(tmp_path / "sub", {"file_name": "b.png", "text": "B"})
    a, b, c = image_folder(tmp_path, prompt="default").records
    assert (a.prompt, a.edit_prompt, a.extra) == ("A", "E", {"mask": 7})
    assert (b.prompt, b.edit_prompt, b.extra) == ("B", None, {})
    assert (c.prompt, c.edit_prompt, c.extra) == ("default", None, {})


def test_metadata_files_of_all_forms_in_nested_folders_are_read(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "sub/b.png", "sub/deep/c.png", "sub/deep/d.png")
    write_metadata(tmp_path, {"file_name": "a.png", "text": "A"})
    (tmp_path / "sub/metadata.csv").write_text("file_name,text\nb.png,B\ndeep/d.png,D\n")
    pandas.DataFrame({"file_name": ["c.png"], "text": ["C"]}).to_parquet(tmp_path / "sub/deep/metadata.parquet")
    records = image_folder(tmp_path).records
    assert {record.file_name: record.prompt for record in records} == {
        "a.png": "A",
        "sub/b.png": "B",
        "sub/deep/c.png": "C",
        "sub/deep/d.png": "D",
    }


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.none() | st.text("ab ,;\"'\n\té\u2028", max_size=9), min_size=1, max_size=4))
def test_csv_files_that_pandas_writes_give_every_text(
    texts: list[str | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    names = [f"{number}, x.png" for number in range(len(texts))]
    for name in names:
        (root / name).touch()
    pandas.DataFrame({"file_name": names, "text": texts}).to_csv(root / "metadata.csv", index=False)
    found = {record.file_name: (record.prompt or "").lstrip(" ") for record in image_folder(root).records}
    assert found == dict(zip(names, [(text or "").lstrip(" ") for text in texts], strict=True))


def test_archives_other_tables_and_texts_beside_images_are_warned_of(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "sub/b.png", "c.png")
    for name in ("a.txt", "sub/b.caption", "c.txt", "notes.txt", "0.tar", "x.ZIP", "sub/metadata.json"):
        (tmp_path / name).touch()
    write_metadata(tmp_path, {"file_name": "c.png", "text": "a cat"})
    with pytest.warns(InputWarning) as caught:
        assert names(tmp_path) == ["a.png", "c.png", "sub/b.png"]
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path}: archives are not opened; WebDatasetDataModule reads .tar files (2): 0.tar, x.ZIP",
        f"{tmp_path}: tables are not read; metadata.jsonl, metadata.csv and metadata.parquet are (1): "
        "sub/metadata.json",
        f"{tmp_path}: texts beside images are not read; list them in metadata.jsonl (2): a.txt, sub/b.caption",
    ]


def test_a_row_may_name_a_hidden_file_or_one_with_another_suffix(tmp_path: Path) -> None:
    write_gray_images(tmp_path, ".hidden/a.png", "picture.data")
    write_metadata(tmp_path, {"file_name": ".hidden/a.png"}, {"file_name": "picture.data"})
    assert gray_levels(image_folder(tmp_path)) == {".hidden/a.png": 10, "picture.data": 20}


def test_the_first_of_two_rows_for_one_file_counts(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "sub/a.png")
    write_metadata(
        tmp_path, {"file_name": "sub/a.png", "text": "first"}, {"file_name": "./sub/a.png", "text": "second"}
    )
    write_metadata(tmp_path / "sub", {"file_name": "a.png", "text": "third"})
    with pytest.warns(InputWarning) as caught:
        (record,) = image_folder(tmp_path).records
    assert record.prompt == "first"
    first = f"sub/a.png is already in {tmp_path}/metadata.jsonl, line 1"
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path}/metadata.jsonl, line 2 is skipped: {first}",
        f"{tmp_path}/sub/metadata.jsonl, line 1 is skipped: {first}",
    ]


def test_every_unreadable_image_is_a_failure_of_its_batch(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "dangling.png").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe.png")
    write_metadata(tmp_path, {"file_name": "gone.png"}, {"file_name": "../out.png"}, {"file_name": "good.png/"})
    (batch,) = image_folder(tmp_path, batch_size=9).predict_dataloader()
    assert [record.file_name for record in batch.records] == ["good.png"]
    failures = {record.file_name: message for record, message in batch.failures}
    assert set(failures) == {"../out.png", "dangling.png", "empty.png", "gone.png", "pipe.png"}
    assert "leads out" in failures["../out.png"]
    assert "link to a file that does not exist" in failures["dangling.png"]
    assert "0 bytes" in failures["empty.png"]
    assert "does not exist" in failures["gone.png"]
    assert "named pipe" in failures["pipe.png"]


def test_a_batch_may_consist_of_failures_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (batch,) = image_folder(tmp_path).predict_dataloader()
    assert batch.images.shape[0] == 0
    assert len(batch.failures) == 1


def test_a_name_that_is_not_utf_8_is_an_error_with_a_printable_name(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "good.png")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")).touch()
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    data = image_folder(tmp_path)
    (batch,) = data.predict_dataloader()
    ((record, message),) = batch.failures
    assert record.file_name == "bad\\udcff.png"
    assert message == "its name is not valid UTF-8"
    assert gray_levels(data) == {"good.png": 10}


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"data\.root: .* contains no images \(files such as \.jpg"):
        image_folder(tmp_path)
