from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renoise.errors import InputError
from renoise.outputs.manifest import Manifest, claim_folder, in_order, open_folder
from renoise.utils.jsonl import write_atomically

SETTINGS: dict[str, Any] = {"model.checkpoint": "a", "model.seed": 0}
OTHERS = SETTINGS | {"model.seed": 1}


def finished(folder: Path) -> Path:
    """A folder with a run under `SETTINGS` in it, and a file of somebody else."""
    claim_folder(folder, SETTINGS)
    Manifest(folder).append([{"file_name": "a.png"}])
    output = ["inversions/a.png.safetensors", "edits/PromptSwap/a.png.png", "summary.json"]
    for name in (*output, "notes.txt", "own/x.png"):
        write_atomically(folder / name, b"content")
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Writing


def test_a_file_is_written_under_a_temporary_name_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "sub/a", b"old")

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "sub/a", b"new")
    assert (tmp_path / "sub/a").read_bytes() == b"old"
    write_atomically(tmp_path / "sub/a", b"new")
    assert files(tmp_path) == {"sub/a"}
    assert (tmp_path / "sub/a").read_bytes() == b"new"


# Rows


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    assert manifest.read() == []
    rows = [
        {"file_name": "猫 é.png", "prompt": "two\nlines\r\u2028three"},
        {"file_name": "b", "psnr": 1.5},
        {"file_name": "c", "x": None},
    ]
    manifest.append(rows[:2])
    manifest.append([])
    manifest.append(rows[2:])
    assert manifest.read() == rows
    assert "猫 é.png" in (tmp_path / "manifest.jsonl").read_text(encoding="utf-8")


def test_half_a_surrogate_pair_can_be_written(tmp_path: Path) -> None:
    Manifest(tmp_path).append([{"prompt": "half \ud83d"}])
    assert Manifest(tmp_path).read() == [{"prompt": "half \ud83d"}]


def test_what_is_no_json_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Manifest(tmp_path).append([{"psnr": float("inf")}])
    assert Manifest(tmp_path).read() == []


@pytest.mark.parametrize("torn", ['{"file_name": "b', '{"file_name": "b"}', "{"])
def test_an_unfinished_last_line_is_no_row_and_can_be_cut_off(tmp_path: Path, torn: str) -> None:
    manifest = Manifest(tmp_path)
    manifest.append([{"file_name": "a"}])
    whole = manifest.path.read_bytes()
    manifest.path.write_bytes(whole + torn.encode())
    assert manifest.read() == [{"file_name": "a"}]
    manifest.repair()
    assert manifest.path.read_bytes() == whole
    manifest.append([{"file_name": "b"}])
    assert manifest.read() == [{"file_name": "a"}, {"file_name": "b"}]


@pytest.mark.parametrize("content", [b"", b'{"file_name": "a"}\n'])
def test_repair_leaves_whole_files_alone(tmp_path: Path, content: bytes) -> None:
    manifest = Manifest(tmp_path)
    manifest.repair()
    assert files(tmp_path) == set()
    manifest.path.write_bytes(content)
    before = manifest.path.stat().st_mtime_ns
    manifest.repair()
    assert (manifest.path.read_bytes(), manifest.path.stat().st_mtime_ns) == (content, before)


def test_a_first_line_that_is_unfinished_leaves_nothing(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.path.write_bytes(b'{"file')
    manifest.repair()
    assert manifest.path.read_bytes() == b""


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    Manifest(tmp_path).path.write_bytes(b'{"file_name": "a"}\nbroken\n{"file_name": "b"}\n')
    with pytest.raises(InputError, match=r"manifest\.jsonl, line 2 is no JSON"):
        Manifest(tmp_path).read()


# In which order, and for whom


@pytest.mark.parametrize("late", ["error", "edit_prompt", "psnr", "photographer"])
def test_however_late_a_column_says_something_datasets_and_pandas_read_all_rows(tmp_path: Path, late: str) -> None:
    count = 40_000  # more than one part of the file
    rows = [{"file_name": f"{n:06d}.png", "status": "ok", "text": "t" * 200, late: None} for n in range(count)]
    rows[-1][late] = 1.5 if late == "psnr" else "said"
    manifest = Manifest(tmp_path)
    manifest.replace(in_order(rows))
    table = datasets.load_dataset(
        "json", data_files=str(manifest.path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table[0][late] == rows[-1][late]
    assert table["file_name"][1:4] == ["000000.png", "000001.png", "000002.png"]
    assert len(table) == len(pandas.read_json(manifest.path, lines=True)) == count


@given(st.lists(st.tuples(st.text(min_size=1), st.none() | st.text()), unique_by=lambda pair: pair[0]))
def test_few_rows_are_in_the_order_of_their_names(pairs: list[tuple[str, str | None]]) -> None:
    rows = [{"file_name": name, "error": error} for name, error in pairs]
    assert in_order(rows) == sorted(rows, key=lambda row: str(row["file_name"]))


# Whose folder it is


def test_a_new_folder_is_made_and_says_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "some/where"
    open_folder(folder, SETTINGS, overwrite=False)
    assert folder.is_dir()
    claim_folder(folder, SETTINGS)
    assert json.loads((folder / "settings.json").read_text(encoding="utf-8")) == SETTINGS


def test_the_same_settings_find_everything_as_it_was(tmp_path: Path) -> None:
    before = files(finished(tmp_path))
    open_folder(tmp_path, SETTINGS, overwrite=False)
    open_folder(tmp_path, SETTINGS, overwrite=True)
    claim_folder(tmp_path, SETTINGS)
    assert files(tmp_path) == before


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    before = files(finished(tmp_path))
    settings = {"model.checkpoint": "a", "model.seed": 1, "model.tolerance": 0.1}
    named = r"other settings \(model\.seed was 0, now 1; model\.tolerance was None, now 0\.1\)"
    with pytest.raises(InputError, match=named):
        open_folder(tmp_path, settings, overwrite=False)
    assert files(tmp_path) == before


def test_overwriting_removes_the_old_output_and_nothing_else(tmp_path: Path) -> None:
    finished(tmp_path)
    open_folder(tmp_path, OTHERS, overwrite=True)
    assert Manifest(tmp_path).read(), "nothing goes before the new run has its model"
    claim_folder(tmp_path, OTHERS)
    assert files(tmp_path) == {"notes.txt", "own/x.png", "settings.json"}
    open_folder(tmp_path, OTHERS, overwrite=False)


def test_a_run_that_finished_no_image_stands_in_nobodys_way(tmp_path: Path) -> None:
    claim_folder(tmp_path, SETTINGS)
    open_folder(tmp_path, OTHERS, overwrite=False)
    claim_folder(tmp_path, OTHERS)
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8")) == OTHERS


@pytest.mark.parametrize("content", ["{broken", "[1]", '{"editor.fontSize": 12}', "\xff"])
def test_settings_that_are_no_runs_are_not_replaced_unasked(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"settings\.json is missing, damaged or not a run's"):
        open_folder(tmp_path, SETTINGS, overwrite=False)
    assert (tmp_path / "settings.json").read_text(encoding="latin-1") == content


def test_a_manifest_without_settings_is_not_added_to(tmp_path: Path) -> None:
    (finished(tmp_path) / "settings.json").unlink()
    with pytest.raises(InputError, match=r"settings\.json is missing"):
        open_folder(tmp_path, SETTINGS, overwrite=False)


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"trainer\.default_root_dir: .*/file/out cannot be written: Not a directory"):
        open_folder(tmp_path / "file/out", SETTINGS, overwrite=False)


def test_a_path_that_is_not_utf_8_can_be_a_setting(tmp_path: Path) -> None:
    settings = SETTINGS | {"data.root": "bad\udcff"}
    finished(tmp_path)
    claim_folder(tmp_path, settings)
    open_folder(tmp_path, settings, overwrite=False)
