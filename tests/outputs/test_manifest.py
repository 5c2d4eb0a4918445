from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renoise.errors import InputError
from renoise.outputs.manifest import Manifest, claim_folder, in_order, open_folder
from renoise.utils.files import write_atomically

SETTINGS: dict[str, Any] = {"model": {"checkpoint": "a", "seed": 0}, "data": {"prompt": ""}}
OTHERS = SETTINGS | {"model": {"checkpoint": "a", "seed": 1}}


def finished(folder: Path) -> Path:
    """Returns a folder with the output of a run with `SETTINGS`, and other files."""
    claim_folder(folder, SETTINGS)
    Manifest(folder).append([{"file_name": "a.png"}])
    output = ["inversions/a.png.safetensors", "edits/PromptSwap/a.png.png", "summary.json"]
    for name in (*output, "notes.txt", "own/x.png"):
        write_atomically(folder / name, b"content")
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Rows


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
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
    rows = [{"file_name": "a.png", "prompt": "half \ud83d"}]
    Manifest(tmp_path).append(rows)
    assert Manifest(tmp_path).read() == rows


def test_infinity_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Manifest(tmp_path).append([{"psnr": float("inf")}])
    assert Manifest(tmp_path).read() == []


@pytest.mark.parametrize("torn", ['{"file_name": "b', '{"file_name": "b"}', "{"])
def test_an_incomplete_last_line_is_no_row_and_can_be_cut_off(tmp_path: Path, torn: str) -> None:
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
def test_repair_does_not_touch_complete_files(tmp_path: Path, content: bytes) -> None:
    manifest = Manifest(tmp_path)
    manifest.repair()
    assert files(tmp_path) == set()
    manifest.path.write_bytes(content)
    before = manifest.path.stat().st_mtime_ns
    manifest.repair()
    assert (manifest.path.read_bytes(), manifest.path.stat().st_mtime_ns) == (content, before)


def test_repair_of_an_incomplete_first_line_leaves_an_empty_file(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.path.write_bytes(b'{"file')
    manifest.repair()
    assert manifest.path.read_bytes() == b""


def test_the_error_of_a_broken_line_names_file_and_line(tmp_path: Path) -> None:
    Manifest(tmp_path).path.write_bytes(b'{"file_name": "a"}\nbroken\n{"file_name": "b"}\n')
    with pytest.raises(InputError, match=r"manifest\.jsonl, line 2 is not JSON"):
        Manifest(tmp_path).read()


# Order of the rows


@pytest.mark.parametrize("late", ["error", "edit_prompt", "psnr", "photographer"])
def test_datasets_and_pandas_read_all_rows_however_late_a_column_has_its_first_value(tmp_path: Path, late: str) -> None:
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
def test_few_rows_are_sorted_by_name(pairs: list[tuple[str, str | None]]) -> None:
    rows = [{"file_name": name, "error": error} for name, error in pairs]
    assert in_order(rows) == sorted(rows, key=lambda row: str(row["file_name"]))


@pytest.mark.parametrize("line", ["5", "[]", "null", '{"status": "ok"}', '{"file_name": 3}', "[" * 100_000])
def test_a_line_that_is_not_a_row_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(f'{{"file_name": "a.png"}}\n{line}\n')
    with pytest.raises(InputError, match=r"manifest\.jsonl, line 2 is not .*; correct or remove the line"):
        Manifest(tmp_path).read()


# Settings of the folder


def test_a_new_folder_is_created_with_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "some/where"
    open_folder(folder, SETTINGS, overwrite=False)
    assert folder.is_dir()
    claim_folder(folder, SETTINGS)
    assert json.loads((folder / "settings.json").read_text(encoding="utf-8")) == SETTINGS


def test_the_same_settings_change_nothing(tmp_path: Path) -> None:
    before = files(finished(tmp_path))
    open_folder(tmp_path, SETTINGS, overwrite=False)
    open_folder(tmp_path, SETTINGS, overwrite=True)
    claim_folder(tmp_path, SETTINGS)
    assert files(tmp_path) == before


def test_other_settings_are_refused_and_listed(tmp_path: Path) -> None:
    before = files(finished(tmp_path))
    settings = {"model": {"checkpoint": "a", "seed": 1, "eta": 0.1}, "data": {"prompt": "a cat"}}
    named = (
        r"other settings \(data\.prompt was '', now 'a cat'; model\.eta was None, now 0\.1; model\.seed was 0, now 1\)"
    )
    with pytest.raises(InputError, match=rf"{named}; choose another folder, or .* --writer\.overwrite true"):
        open_folder(tmp_path, settings, overwrite=False)
    assert files(tmp_path) == before


def made(name: str, package: str = "renoise.inversion", **options: Any) -> dict[str, Any]:
    """Returns the description of an object, as in a YAML file."""
    return {"class_path": f"{package}.{name}", "init_args": options}


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        (made("ReNoise", iterations=1, tolerance=None), made("ReNoise", iterations=4), "x.iterations was 1, now 4"),
        (made("ReNoise", iterations=1), made("DDIM"), "x was ReNoise, now DDIM"),
        (made("ReNoise"), made("ReNoise", "other"), f"x was {made('ReNoise')}, now {made('ReNoise', 'other')}"),
        (made("Direct", path=made("DDIM")), made("Direct", path=made("Own")), "x.path was DDIM, now Own"),
        (made("Direct", path=None), made("Direct", path=made("DDIM", a=1)), "x.path was None, now DDIM"),
        ({"class_path": "a.Data", "prompt": ""}, {"class_path": "a.Data", "prompt": "b"}, "x.prompt was '', now 'b'"),
        ({"class_name": "DDIM", "a": 1}, {"class_name": "Euler", "a": 2}, "x was DDIM, now Euler"),
        ({"class_name": "DDIM", "a": 1}, {"class_name": "DDIM", "a": 2}, "x.a was 1, now 2"),
        ({"below": [0.5, 0.5]}, {"below": [1.0]}, "x.below was [0.5, 0.5], now [1.0]"),
        ([made("PromptSwap", scale=1)], [made("PromptSwap", scale=2)], "x.0.scale was 1, now 2"),
        ([made("PromptSwap")], [made("NullText")], "x.0 was PromptSwap, now NullText"),
        ([], [made("PromptSwap"), made("NullText")], "x was [], now [PromptSwap, NullText]"),
        (["psnr"], ["psnr", "ssim"], "x was ['psnr'], now ['psnr', 'ssim']"),
    ],
)
def test_objects_are_named_by_class_and_differ_in_their_options(
    tmp_path: Path, old: Any, new: Any, difference: str
) -> None:
    claim_folder(tmp_path, {"model": {"x": old}})
    Manifest(tmp_path).append([{"file_name": "a.png"}])
    open_folder(tmp_path, {"model": {"x": old}}, overwrite=False)
    with pytest.raises(InputError, match=re.escape(f"other settings (model.{difference});")):
        open_folder(tmp_path, {"model": {"x": new}}, overwrite=False)


def test_overwriting_removes_the_old_output_and_no_other_files(tmp_path: Path) -> None:
    finished(tmp_path)
    open_folder(tmp_path, OTHERS, overwrite=True)
    assert Manifest(tmp_path).read(), "nothing is removed before the new run has its model"
    claim_folder(tmp_path, OTHERS)
    assert files(tmp_path) == {"notes.txt", "own/x.png", "settings.json"}
    open_folder(tmp_path, OTHERS, overwrite=False)


def test_the_settings_of_a_run_without_finished_images_do_not_count(tmp_path: Path) -> None:
    claim_folder(tmp_path, SETTINGS)
    open_folder(tmp_path, OTHERS, overwrite=False)
    claim_folder(tmp_path, OTHERS)
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8")) == OTHERS


@pytest.mark.parametrize("content", ["{broken", "[1]", '{"editor.fontSize": 12}', "\xff"])
def test_a_settings_file_that_is_not_of_a_run_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"settings\.json is missing, damaged or not that of a run"):
        open_folder(tmp_path, SETTINGS, overwrite=False)
    assert (tmp_path / "settings.json").read_text(encoding="latin-1") == content


def test_a_folder_with_a_manifest_without_settings_is_refused(tmp_path: Path) -> None:
    (finished(tmp_path) / "settings.json").unlink()
    with pytest.raises(InputError, match=r"settings\.json is missing"):
        open_folder(tmp_path, SETTINGS, overwrite=False)


def test_a_folder_that_cannot_be_created_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"trainer\.default_root_dir: .*/file/out cannot be written: Not a directory"):
        open_folder(tmp_path / "file/out", SETTINGS, overwrite=False)


def test_a_path_that_is_not_utf_8_can_be_a_setting(tmp_path: Path) -> None:
    settings = SETTINGS | {"data": {"root": "bad\udcff"}}
    finished(tmp_path)
    claim_folder(tmp_path, settings)
    open_folder(tmp_path, settings, overwrite=False)
