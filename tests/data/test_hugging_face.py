from __future__ import annotations

import json
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from renoise.data import HuggingFaceDataModule, read_image
from renoise.errors import InputError, InputWarning
from renoise.outputs.manifest import Manifest

NAMES = ["a.png", "b.jpg", "c.png"]
COLUMNS = {
    "text": ["a cat", None, "a fox"],
    "edit_text": ["a dog", "a bear", None],
    "score": [0.5, float("nan"), 2.0],
    "label": [1, 2, 3],
    "tags": [["x"], [], ["y", "z"]],
}


@pytest.fixture
def files(tmp_path: Path, pictures: Callable[..., Path]) -> list[Path]:
    return [pictures(tmp_path / "files", *NAMES) / name for name in NAMES]


@pytest.fixture
def table(files: list[Path]) -> datasets.Dataset:
    """Three images with columns of many types."""
    found = datasets.Dataset.from_dict({"image": [str(path) for path in files], **COLUMNS})
    return found.cast_column("image", datasets.Image())


def ready(root: Path, **options: Any) -> HuggingFaceDataModule:
    data = HuggingFaceDataModule(root, resolution=32, **options)
    data.setup("predict")
    return data


def saved(table: datasets.Dataset, files: list[Path], root: Path) -> None:
    table.save_to_disk(str(root))


def saved_with_splits(table: datasets.Dataset, files: list[Path], root: Path) -> None:
    datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(str(root))


def parquet(table: datasets.Dataset, files: list[Path], root: Path) -> None:
    root.mkdir()
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in files]  # as on Hugging Face's hub
    whole = table.remove_columns("image").add_column("image", cells).cast_column("image", datasets.Image())
    whole.to_parquet(str(root / "train-00000-of-00001.parquet"))


def image_folder(table: datasets.Dataset, files: list[Path], root: Path) -> None:
    root.mkdir()
    rows = []
    for number, path in enumerate(files):
        (root / path.name).write_bytes(path.read_bytes())
        values = {name: values[number] for name, values in COLUMNS.items() if name not in ("tags", "score")}
        rows.append({"file_name": path.name, **values})
    datasets.Dataset.from_list(rows).to_json(str(root / "metadata.jsonl"))


@pytest.mark.parametrize("write", [saved, saved_with_splits, parquet, image_folder])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_row_is_an_image_with_its_texts_in_every_format(
    write: Callable[..., None], num_workers: int, table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    write(table, files, tmp_path / "set")
    data = ready(tmp_path / "set", prompt="a photo", num_workers=num_workers)
    assert [each.file_name for each in data.records] == [
        "train/00000000.png",
        "train/00000001.jpg",
        "train/00000002.png",
    ]
    assert [each.prompt for each in data.records] == ["a cat", "a photo", "a fox"]
    assert [each.edit_prompt for each in data.records] == ["a dog", "a bear", None]
    assert [each.extra["label"] for each in data.records] == [1, 2, 3]
    (batch,) = data.predict_dataloader()
    assert batch.failures == []
    for pixels, sha256, path in zip(batch.images, batch.sha256, files, strict=True):
        content = read_image(path, 32)
        assert torch.equal(pixels, content.pixels)
        assert sha256 == content.sha256, "the file's own bytes"


def test_columns_of_numbers_pass_through_and_lists_do_not(
    table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    saved(table, files, tmp_path / "set")
    assert [each.extra for each in ready(tmp_path / "set").records] == [
        {"score": 0.5, "label": 1},
        {"score": None, "label": 2},
        {"score": 2.0, "label": 3},
    ]


def test_columns_and_splits_can_be_named(table: datasets.Dataset, files: list[Path], tmp_path: Path) -> None:
    renamed = table.rename_columns({"image": "photo", "text": "says", "edit_text": "becomes"})
    both = renamed.add_column("thumbnail", [str(files[0])] * 3).cast_column("thumbnail", datasets.Image())
    datasets.DatasetDict({"train": table, "test": both}).save_to_disk(str(tmp_path / "set"))
    options = {"split": "test", "text_column": "says", "edit_text_column": "becomes"}
    by_default = ready(tmp_path / "set", **options)
    assert [each.prompt for each in by_default.records] == ["a cat", "", "a fox"]
    assert by_default.records[0].file_name == "test/00000000.png"
    (batch,) = ready(tmp_path / "set", image_column="thumbnail", **options).predict_dataloader()
    assert torch.equal(batch.images[0], batch.images[1])


def test_an_error_about_a_missing_split_or_column_lists_those_that_exist(
    table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    saved_with_splits(table, files, tmp_path / "set")
    with pytest.raises(InputError, match=r"data\.split: .* has no split 'val'; there are: train, test"):
        ready(tmp_path / "set", split="val")
    with pytest.raises(InputError, match=r"data\.image_column: .* no column of images 'label'; .*image \(Image\)"):
        ready(tmp_path / "set", image_column="label")
    table.remove_columns("image").save_to_disk(str(tmp_path / "texts"))
    with pytest.raises(InputError, match=r"has no column of images; its columns are: text \(Value\)"):
        ready(tmp_path / "texts")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"data\.root: .*empty cannot be opened by `datasets`"):
        ready(tmp_path / "empty")


def test_a_missing_or_damaged_image_does_not_affect_the_others(table: datasets.Dataset, tmp_path: Path) -> None:
    rows = [{"bytes": b"no picture", "path": None}, None]
    odd = datasets.Dataset.from_list([{"image": row} for row in rows]).cast_column("image", datasets.Image())
    datasets.concatenate_datasets([odd, table.select_columns("image")]).save_to_disk(str(tmp_path / "set"))
    (batch,) = ready(tmp_path / "set", batch_size=9).predict_dataloader()
    assert [record.file_name for record in batch.records] == [
        *("train/00000002.png", "train/00000003.jpg", "train/00000004.png"),
    ]
    assert [error.split(" (")[0] for _, error in batch.failures] == [
        "is not an image in a known format",
        "the row contains no image",
    ]


def test_paths_in_a_table_are_relative_to_its_folder(files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    files[0].parent.rename(root / "photos")
    (root / "train.csv").write_text("photo,text\nphotos/a.png,one\nphotos/gone.png,two\nhttps://example.com/x.png,\n")
    data = ready(root, image_column="photo")
    assert [each.file_name for each in data.records] == [f"train/{number:08d}.png" for number in range(3)]
    (batch,) = data.predict_dataloader()
    assert torch.equal(batch.images[0], read_image(root / "photos/a.png", 32).pixels)
    assert [record.prompt for record in batch.records] == ["one"]
    assert [error for _, error in batch.failures] == ["does not exist", "is not a file: https://example.com/x.png"]


CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n---\n# A data set\n"


@pytest.mark.parametrize(
    "path",
    ["../other.csv", "{}/other.csv", "https://example.com/x.csv", "[sub/a.csv, ../other.csv]", "~/x.csv", "*/../../*"],
)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_card_that_names_files_elsewhere_is_refused(tmp_path: Path, path: str, name: str) -> None:
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    for file in (tmp_path / "other.csv", root / "sub/a.csv"):
        file.write_text("image,text\na.png,one\n")
    card = CARD.format(f'"{path.format(tmp_path)}"' if path[0] != "[" else path)
    (root / name).write_text(card if name == "README.md" else card.split("---\n")[1])
    with pytest.raises(InputError, match=rf"data\.root: .*{name}: .*a data set is read from its own folder only"):
        ready(root, image_column="image")


def test_a_card_may_name_files_of_its_folder_but_not_behind_links(tmp_path: Path, files: list[Path]) -> None:
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    (root / "sub/a.csv").write_text("image,text\na.png,one\n")
    (root / "README.md").write_text(CARD.format("sub/*.csv"))
    assert [each.prompt for each in ready(root, image_column="image").records] == ["one"]
    (root / "sub").rename(tmp_path / "elsewhere")
    (root / "sub").symlink_to("../elsewhere", target_is_directory=True)
    with pytest.raises(InputError, match=r"its path leads through a link: sub"):
        ready(root, image_column="image")


@pytest.mark.parametrize("file", ["state.json", "train/state.json", "dataset_dict.json"])
def test_a_saved_data_set_that_names_files_elsewhere_is_refused(
    table: datasets.Dataset, files: list[Path], tmp_path: Path, file: str
) -> None:
    root = tmp_path / "set"
    saved(table, files, root) if file == "state.json" else saved_with_splits(table, files, root)
    path = root / file
    content = json.loads(path.read_text())
    if file == "dataset_dict.json":
        content["splits"].append("../other")
    else:
        content["_data_files"][0]["filename"] = "../../other/data.arrow"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"data\.root: .*{file}: .*its path leads out of data\.root"):
        ready(root)


def test_texts_in_other_columns_and_images_without_a_row_are_warned_of(
    table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    image_folder(table.remove_columns(["text", "edit_text"]), files, tmp_path / "set")
    rows = [json.loads(line) for line in (tmp_path / "set/metadata.jsonl").read_text().splitlines()]
    rows = [{"file_name": row["file_name"], "caption": "a cat"} for row in rows[:2]]
    (tmp_path / "set/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(InputWarning) as caught:
        assert len(ready(tmp_path / "set").records) == 2
    assert [str(each.message).partition(": ")[2] for each in caught if each.category is InputWarning] == [
        "no row has a text, and other columns of strings are not prompts: caption; name the columns by "
        "data.text_column and data.edit_text_column",
        "images are left out because the metadata do not list them; ImageFolderDataModule reads all (1): c.png",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        (tmp_path / "set/c.png").unlink()
        assert ready(tmp_path / "set", text_column="caption").records[0].prompt == "a cat"


def test_suffixes_come_from_the_column_file_name_if_paths_have_none(files: list[Path], tmp_path: Path) -> None:
    rows = [{"bytes": path.read_bytes(), "path": None} for path in files]
    rows[2]["path"] = "no/suffix"
    columns = {"image": rows, "file_name": ["x/one.JPG", "../two.sh", "three.webp"]}
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    saved(table, files, tmp_path / "set")
    names = [each.file_name for each in ready(tmp_path / "set").records]
    assert names == ["train/00000000.jpg", "train/00000001.png", "train/00000002.webp"]


def test_a_saved_format_and_other_image_columns_are_ignored(
    table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    broken = [{"bytes": b"no picture", "path": None}] * 3
    both = table.add_column("depth", broken).cast_column("depth", datasets.Image())
    both.with_format("torch").save_to_disk(str(tmp_path / "set"))
    data = ready(tmp_path / "set")
    assert [each.prompt for each in data.records] == ["a cat", "", "a fox"]
    assert [each.source.read() for each in data.records] == [path.read_bytes() for path in files]


def test_a_source_can_be_pickled(table: datasets.Dataset, files: list[Path], tmp_path: Path) -> None:
    saved(table, files, tmp_path / "set")
    sent = pickle.dumps(ready(tmp_path / "set").records[1].source)
    assert pickle.loads(sent).read() == files[1].read_bytes()
    assert len(sent) < 10_000


def test_many_rows_are_listed_quickly(files: list[Path], tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(20_000)]
    cells = [{"bytes": b"", "path": "a.png"}] * len(texts)
    table = datasets.Dataset.from_dict({"image": cells, "text": texts, "label": [0.5] * len(texts)})
    saved(table.cast_column("image", datasets.Image()), files, tmp_path / "set")
    start = time.perf_counter()
    records = ready(tmp_path / "set").records
    assert time.perf_counter() - start < 10  # row by row it would take half a minute
    assert [each.prompt for each in records] == texts


def test_text_columns_must_contain_strings_and_may_be_none(
    table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    saved(table, files, tmp_path / "set")
    with pytest.raises(InputError, match=r"data\.text_column: .* no column of texts 'caption'; its columns are: image"):
        ready(tmp_path / "set", text_column="caption")
    with pytest.raises(InputError, match=r"data\.edit_text_column: .* no column of texts 'tags'; .*tags \(List\)"):
        ready(tmp_path / "set", edit_text_column="tags")
    saved(table.rename_column("tags", "caption").rename_column("text", "x"), files, tmp_path / "other")
    assert [each.prompt for each in ready(tmp_path / "other").records] == [""] * 3
    saved(table.add_column("caption", ["one", "two", "three"]), files, tmp_path / "both")
    records = ready(tmp_path / "both", text_column="caption", edit_text_column=None).records
    assert [(each.prompt, each.edit_prompt) for each in records] == [("one", None), ("two", None), ("three", None)]


@pytest.mark.parametrize("split", ["../../out", "train[:1]", "", "a/b", ".."])
def test_an_invalid_name_of_a_split_is_an_error(split: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split must be the name of a split, such as train, got '"):
        HuggingFaceDataModule(tmp_path, split=split)


def test_a_split_that_was_saved_alone_keeps_its_name(
    table: datasets.Dataset, files: list[Path], tmp_path: Path
) -> None:
    parquet(table, files, tmp_path / "set")
    (tmp_path / "set/train-00000-of-00001.parquet").rename(tmp_path / "set/test.parquet")
    test = datasets.load_dataset(str(tmp_path / "set"), split="test", cache_dir=str(tmp_path / "cache"))
    test.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(InputError, match=r"data\.split: .*saved has no split 'train'; there are: test"):
        ready(tmp_path / "saved")
    assert ready(tmp_path / "saved", split="test").records[0].file_name == "test/00000000.png"


def test_text_that_is_not_utf_8_is_an_error(files: list[Path], tmp_path: Path) -> None:
    invalid = pa.array([b"\xff", b"x", b"y"]).view(pa.string())
    cells = [{"bytes": path.read_bytes(), "path": None} for path in files]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": cells, "text": invalid}), tmp_path / "set/train.parquet")
    with pytest.raises(InputError, match=r"data\.root: .*set cannot be (read|opened) by `datasets`"):
        ready(tmp_path / "set", image_column="image")


def test_an_unmarked_column_of_images_can_be_named(files: list[Path], tmp_path: Path) -> None:
    columns = {"cells": [{"bytes": path.read_bytes(), "path": None} for path in files]}
    columns |= {"bytes": [path.read_bytes() for path in files]}
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "set/train.parquet")
    with pytest.raises(InputError, match="has no column of images; its columns are: cells"):
        ready(tmp_path / "set")
    for column in columns:
        sources = [each.source for each in ready(tmp_path / "set", image_column=column).records]
        assert [source.read() for source in sources] == [path.read_bytes() for path in files]


def test_an_output_folder_inside_the_data_set_is_an_error(
    table: datasets.Dataset, files: list[Path], tmp_path: Path, predict: Callable[..., Any]
) -> None:
    root = tmp_path / "set"
    parquet(table, files, root)
    run = predict(root, root / "out", "--data=HuggingFaceDataModule", f"--data.root={root}")
    assert run.status == 2
    assert "trainer.default_root_dir: " in run.err
    assert "is inside data.root" in run.err


def test_the_error_without_the_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r'pip install "renoise\[datasets\]"'):
        ready(tmp_path)


def test_a_run_uses_the_short_class_name_and_writes_nothing_to_the_data_set(
    table: datasets.Dataset, files: list[Path], tmp_path: Path, predict: Callable[..., Any]
) -> None:
    parquet(table, files, tmp_path / "set")
    root = tmp_path / "set"
    run = predict(root, tmp_path / "out", "--data=HuggingFaceDataModule", f"--data.root={root}", "--data.resolution=32")
    assert run.status == 0, run.err
    assert "Generating" not in run.err
    assert not datasets.are_progress_bars_disabled()
    rows = {row["file_name"]: row for row in Manifest(tmp_path / "out").read()}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert rows["train/00000001.jpg"]["edit_prompt"] == "a bear"
    assert [path.name for path in root.iterdir()] == ["train-00000-of-00001.parquet"]
    assert (tmp_path / "out/.datasets").is_dir()
