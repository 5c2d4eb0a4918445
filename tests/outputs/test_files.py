from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import webdataset
from helpers.runs import assert_whole
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

import renoise
from renoise.errors import InputError
from renoise.outputs.files import INVERSION, RECONSTRUCTION, SeparateFiles, Shards, read_output, repair_shards
from renoise.outputs.manifest import Manifest

Predict = Callable[..., Any]
Pictures = Callable[..., Path]
NAMES = ["a.b.png", "a.jpg", "a.png", "sub/a.png", "sub/é 猫.png"]
FILES = {INVERSION: b"inversion", RECONSTRUCTION: b"r" * 700, "PromptSwap": b""}


def filled(folder: Path, images: int, per_shard: int, rank: int = 0, close: bool = True) -> list[dict[str, Any]]:
    """Returns the rows of images whose files are in shards."""
    shards = Shards(folder, rank, per_shard)
    rows = []
    for number in range(images):
        row = {"file_name": f"{rank}-{number}.png"}
        files = {kind: content + f"{rank} {number}".encode() for kind, content in FILES.items()}
        rows.append(row | shards.add(row, files))
    if close:
        shards.close()
    return rows


def samples(folder: Path) -> list[dict[str, Any]]:
    """Returns what the webdataset package reads from the shards."""
    paths = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    return list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))


def test_separate_files_have_the_documented_paths(tmp_path: Path) -> None:
    row = {"file_name": "sub/a.png"}
    row |= SeparateFiles(tmp_path).add(row, FILES)
    assert row == {"file_name": "sub/a.png", "inversion": "inversions/sub/a.png.safetensors"}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == {
        "inversions/sub/a.png.safetensors",
        "reconstructions/sub/a.png.png",
        "edits/PromptSwap/sub/a.png.png",
    }
    assert {kind: read_output(tmp_path, row, kind) for kind in FILES} == FILES


def test_a_name_that_is_too_long_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file can be written under this name: File name too long"):
        SeparateFiles(tmp_path).add({"file_name": "a" * 250 + ".png"}, FILES)


@pytest.mark.parametrize(("images", "per_shard", "shards"), [(5, 2, 3), (4, 2, 2), (1, 9, 1), (3, 1, 3)])
def test_a_shard_holds_the_given_number_of_images(tmp_path: Path, images: int, per_shard: int, shards: int) -> None:
    rows = filled(tmp_path, images, per_shard)
    assert len(list((tmp_path / "shards").iterdir())) == shards
    for number, row in enumerate(rows):
        assert row["inversion"] == f"shards/00000-{number // per_shard:06d}.tar"
        for kind, content in FILES.items():
            assert read_output(tmp_path, row, kind) == content + f"0 {number}".encode()
        assert read_output(tmp_path, row, "another") is None


def test_webdataset_reads_the_shards_of_all_processes(tmp_path: Path) -> None:
    rows = filled(tmp_path, 3, 2, rank=0) + filled(tmp_path, 2, 2, rank=1)
    found = samples(tmp_path)
    assert [json.loads(sample["json"])["file_name"] for sample in found] == [row["file_name"] for row in rows]
    assert [sample["inversion.safetensors"] for sample in found][-1] == b"inversion1 1"
    assert len({sample["__key__"] for sample in found}) == 5


@pytest.mark.parametrize("close", [True, False])
def test_the_next_run_starts_new_shards(tmp_path: Path, close: bool) -> None:
    first = filled(tmp_path, 3, 2, close=close)
    repair_shards(tmp_path, first)
    second = filled(tmp_path, 1, 2)
    assert second[0]["inversion"] == "shards/00000-000002.tar"
    assert read_output(tmp_path, first[2], INVERSION) == b"inversion0 2"
    assert len(samples(tmp_path)) == 4


@settings(max_examples=40, deadline=None)
@given(known=st.integers(0, 4), cut=st.floats(0, 1))
def test_wherever_a_run_is_killed_repair_keeps_exactly_the_images_of_the_manifest(
    known: int, cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    rows = filled(folder, 4, 9)
    path = folder / rows[0]["inversion"]
    content = path.read_bytes()
    least = max((sum(part) for row in rows[:known] for part in row["members"].values()), default=0)
    path.write_bytes(content[: least + round(cut * (len(content) - least))])
    repair_shards(folder, rows[:known])
    if known == 0:
        assert not path.exists()
        return
    with tarfile.open(path) as archive:
        assert len(archive.getmembers()) == 4 * known
    assert len(samples(folder)) == known
    assert all(read_output(folder, row, INVERSION) == f"inversion0 {n}".encode() for n, row in enumerate(rows[:known]))


def test_archives_of_a_person_are_left_alone(tmp_path: Path) -> None:
    rows = filled(tmp_path, 2, 2)
    names = {"backup.tar", "00000-old.tar", "00000-000000.old.tar", "0-7.tar"}
    for name in names:
        (tmp_path / "shards" / name).write_bytes(b"precious")
    repair_shards(tmp_path, [])
    assert {path.name for path in (tmp_path / "shards").iterdir()} == names
    rows = filled(tmp_path, 2, 2)
    repair_shards(tmp_path, rows)
    assert {(tmp_path / "shards" / name).read_bytes() for name in names} == {b"precious"}


def test_repair_does_not_touch_complete_shards(tmp_path: Path) -> None:
    rows = filled(tmp_path, 3, 2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}
    repair_shards(tmp_path, rows)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()} == before


def test_a_run_with_shards_has_the_same_results_as_one_with_separate_files(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root = pictures(tmp_path / "photos", *NAMES)
    (root / "bad.png").touch()
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}\n')
    options = ["--model.editors=[PromptSwap]", "--data.batch_size=2"]
    assert predict(root, tmp_path / "files", *options).status == 0
    assert predict(root, tmp_path / "shards", *options, "--writer.images_per_shard=2").status == 0
    one, other = (renoise.load_inversions(tmp_path / name) for name in ("files", "shards"))
    assert one.names == other.names == NAMES
    for name in NAMES:
        torch.testing.assert_close(other[name]["latent"], one[name]["latent"])
        assert other.metadata(name) == one.metadata(name)
    for kind in (RECONSTRUCTION, "PromptSwap"):
        pictures_of = [read_output(each.folder, each.rows["a.png"], kind) for each in (one, other)]
        assert pictures_of[0] == pictures_of[1] is not None
    for name in ("summary.json", "contact_sheet.png"):
        assert (tmp_path / "shards" / name).exists()
    assert (tmp_path / "shards/contact_sheet.png").read_bytes() == (tmp_path / "files/contact_sheet.png").read_bytes()
    assert not (tmp_path / "shards/inversions").exists()
    assert len(list((tmp_path / "shards/shards").iterdir())) == 3
    content = samples(tmp_path / "shards")[0]["inversion.safetensors"]
    assert load(content)["latent"].shape == (4, 8, 8)


def test_a_run_may_continue_with_or_without_shards_and_overwriting_removes_both(
    tmp_path: Path, pictures: Pictures, predict: Predict
) -> None:
    root, out = pictures(tmp_path / "photos", *NAMES[:3]), tmp_path / "out"
    assert predict(root, out, "--writer.images_per_shard=2").status == 0
    pictures(root, *NAMES[3:])
    assert predict(root, out).status == 0
    rows = {row["file_name"]: row["inversion"].split("/")[0] for row in Manifest(out).read()}
    assert rows == dict.fromkeys(NAMES[:3], "shards") | dict.fromkeys(NAMES[3:], "inversions")
    assert len(renoise.load_inversions(out)) == len(NAMES)
    assert predict(root, out, "--model.seed=1", "--writer.overwrite=true").status == 0
    assert not (out / "shards").exists()
    assert_whole(out, NAMES)


@pytest.mark.parametrize("value", [0, -3])
def test_a_shard_without_images_is_refused(tmp_path: Path, pictures: Pictures, predict: Predict, value: int) -> None:
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", f"--writer.images_per_shard={value}")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "writer.images_per_shard must be 1 or more" in run.err
