from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renoise.data.captions import Captions
from renoise.errors import InputError, InputWarning


def gathered(folder: Path) -> dict[str, str]:
    """Returns the captions that the first process of a run reads."""
    captions = Captions(folder)
    captions.gather()
    return captions.read()


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Makes a warning that a test does not expect an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def line(name: str, text: str) -> str:
    return json.dumps({"file_name": name, "text": text}, ensure_ascii=False) + "\n"


def test_without_a_file_there_are_no_captions(tmp_path: Path) -> None:
    assert gathered(tmp_path) == {}


def test_gather_merges_the_captions_of_all_processes_into_one_file(tmp_path: Path) -> None:
    for rank, name in enumerate(("a.png", "sub/é.png", "c.png")):
        Captions(tmp_path, rank).append([{"file_name": name, "text": f"number {rank}"}])
    found = gathered(tmp_path)
    assert found == {"a.png": "number 0", "sub/é.png": "number 1", "c.png": "number 2"}
    assert [path.name for path in tmp_path.iterdir()] == ["captions.jsonl"]
    assert gathered(tmp_path) == found


def test_gather_does_not_rewrite_a_file_that_is_merged_already(tmp_path: Path) -> None:
    Captions(tmp_path).append([{"file_name": "a.png", "text": "a cat"}])
    before = (tmp_path / "captions.jsonl").stat().st_mtime_ns
    Captions(tmp_path).gather()
    assert (tmp_path / "captions.jsonl").stat().st_mtime_ns == before


def test_the_last_of_several_captions_of_one_image_counts(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(line("a.png", "a cat") + line("b.png", "a dog") + line("a.png", "a fox"))
    assert gathered(tmp_path) == {"a.png": "a fox", "b.png": "a dog"}


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ('{"file_name": "b.png", "text": "a do', "not JSON"),
        ('["b.png", "a dog"]', "not an object with strings"),
        ('{"file_name": "b.png"}', "not an object with strings"),
        ('{"file_name": "b.png", "text": null}', "not an object with strings"),
        ('{"file_name": "b.png", "text": "half \\ud83d"}', "not an object with strings .* of valid Unicode"),
        ('{"file_name": "\\ud83d.png", "text": "a dog"}', "not an object with strings .* of valid Unicode"),
        ("5", "not an object with strings"),
        ("NaN", "not an object with strings"),
        ("[" * 100_000, "not JSON"),
        ("\udcff", "not JSON"),
    ],
)
def test_a_broken_line_is_skipped_with_a_warning_and_stays_in_the_file(
    tmp_path: Path, broken: str, problem: str
) -> None:
    content = (line("a.png", "a cat") + broken + "\n\n" + line("c.png", "a fox")).encode("utf-8", "surrogateescape")
    (tmp_path / "captions.jsonl").write_bytes(content)
    with pytest.warns(InputWarning, match=rf"captions\.jsonl, line 2 is skipped: {problem}"):
        assert gathered(tmp_path) == {"a.png": "a cat", "c.png": "a fox"}
    assert (tmp_path / "captions.jsonl").read_bytes() == content


def test_windows_line_ends_and_a_missing_last_line_end_are_accepted(tmp_path: Path) -> None:
    content = line("a.png", "a cat").replace("\n", "\r\n") + line("b.png", "a dog").rstrip()
    (tmp_path / "captions.jsonl").write_bytes(content.encode())
    captions = Captions(tmp_path)
    assert gathered(captions.path.parent) == {"a.png": "a cat", "b.png": "a dog"}
    captions.append([{"file_name": "c.png", "text": "a fox"}])
    assert gathered(tmp_path)["c.png"] == "a fox"
    assert gathered(tmp_path)["b.png"] == "a dog"


@given(texts=st.dictionaries(st.text(min_size=1), st.text(), min_size=1), cut=st.floats(0, 1, exclude_max=True))
def test_an_incomplete_last_line_is_cut_off_and_the_others_stay(
    texts: dict[str, str], cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    captions = Captions(tmp_path_factory.mktemp("killed"))
    captions.append({"file_name": name, "text": text} for name, text in texts.items())
    whole = captions.path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    captions.path.write_bytes(whole[: start + int(cut * (len(whole) - start - 1))])
    *others, _ = texts.items()
    assert gathered(captions.path.parent) == dict(others)


def test_the_first_caption_creates_the_folder(tmp_path: Path) -> None:
    Captions(tmp_path / "out" / "run").append([{"file_name": "a.png", "text": "a cat"}])
    assert gathered(tmp_path / "out" / "run") == {"a.png": "a cat"}


def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").mkdir()
    with pytest.raises(InputError, match=r"captions\.jsonl"):
        Captions(tmp_path).gather()
