from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from renoise.data import ImageBatch, ImageFolderDataModule, UnreadableImageError, images_data_module
from renoise.errors import InputError, InputWarning


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """A warning that a test does not expect is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def fill(root: Path, *names: str) -> Path:
    """Writes images, each in a gray of its own: 10, 20, …"""
    for number, name in enumerate(names, start=1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(path, "PNG")
    return root


def rows(folder: Path, *rows: dict[str, object]) -> None:
    """Writes a metadata file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def ready(
    root: Path, output: Path | None = None, rank: int = 0, world_size: int = 1, **options: Any
) -> ImageFolderDataModule:
    """The data module after `setup`, in a trainer that writes to `output`."""
    data = ImageFolderDataModule(root, resolution=8, **options)
    if output is not None or world_size > 1:
        folder = str(output or root.parent)
        trainer: Any = SimpleNamespace(default_root_dir=folder, global_rank=rank, world_size=world_size)
        data.trainer = trainer
    data.setup("predict")
    return data


def names(root: Path, **options: Any) -> list[str]:
    """The file names of the records found."""
    return [record.file_name for record in ready(root, **options).records]


def loaded(data: ImageFolderDataModule) -> dict[str, float]:
    """File name to gray level, as read by the loader."""
    batches: list[ImageBatch] = list(data.predict_dataloader())
    return {
        record.file_name: round(image.mean().item() * 255)
        for batch in batches
        for record, image in zip(batch.records, batch.images, strict=True)
    }


# Finding


def test_images_are_found_in_all_folders_sorted_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "b.png", "a/z.JPG", "a.webp", "a/deep/b.tiff", "Z.gif", "two words é 猫.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "page.eps").touch()
    assert names(tmp_path) == ["Z.gif", "a.webp", "a/deep/b.tiff", "a/z.JPG", "b.png", "two words é 猫.png"]


def test_one_stem_with_two_suffixes_is_two_images(tmp_path: Path) -> None:
    assert names(fill(tmp_path, "a.png", "a.jpg")) == ["a.jpg", "a.png"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    assert names(fill(tmp_path, "a.png", "._a.png", ".cache/b.png", "c/.d/e.png")) == ["a.png"]


def test_links_to_folders_are_not_followed_but_links_to_images_are(tmp_path: Path) -> None:
    fill(tmp_path / "root", "a.png")
    fill(tmp_path / "elsewhere", "b.png")
    (tmp_path / "root" / "loop").symlink_to("..", target_is_directory=True)
    (tmp_path / "root" / "link.png").symlink_to("../elsewhere/b.png")
    (tmp_path / "root" / "folder.png").symlink_to("../elsewhere", target_is_directory=True)
    assert names(tmp_path / "root") == ["a.png", "link.png"]


def test_the_output_folder_inside_the_root_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "out/reconstructions/a.png", "outer/b.png")
    rows(tmp_path / "out", {"file_name": "reconstructions/a.png"})
    assert names(tmp_path, output=tmp_path / "out") == ["a.png", "outer/b.png"]
    assert names(tmp_path, output=tmp_path / "x" / ".." / "out") == ["a.png", "outer/b.png"]


@pytest.mark.parametrize("output", [".", ".."])
def test_no_image_is_left_out_if_the_output_folder_is_or_contains_the_root(tmp_path: Path, output: str) -> None:
    root = fill(tmp_path / "root", "a.png", "b/c.png")
    assert names(root, output=root / output) == ["a.png", "b/c.png"]


def test_a_root_with_a_tilde_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(fill(tmp_path, "photos/a.png")))
    assert names(Path("~/photos")) == ["a.png"]


def test_a_folder_that_cannot_be_listed_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.png", "locked/b.png")
    listing = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(InputWarning, match="locked is left out: Permission denied"):
        assert names(tmp_path) == ["a.png"]


# Metadata


def test_rows_give_images_their_prompts_and_the_others_get_the_default(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "sub/b.png", "sub/c.png")
    rows(tmp_path, {"file_name": "a.png", "text": "A", "edit_text": "E", "mask": 7})
    rows(tmp_path / "sub", {"file_name": "b.png", "text": "B"})
    a, b, c = ready(tmp_path, prompt="default").records
    assert (a.prompt, a.edit_prompt, a.extra) == ("A", "E", {"mask": 7})
    assert (b.prompt, b.edit_prompt, b.extra) == ("B", None, {})
    assert (c.prompt, c.edit_prompt, c.extra) == ("default", None, {})


def test_a_row_may_name_a_hidden_file_or_one_with_another_suffix(tmp_path: Path) -> None:
    fill(tmp_path, ".hidden/a.png", "picture.data")
    rows(tmp_path, {"file_name": ".hidden/a.png"}, {"file_name": "picture.data"})
    assert loaded(ready(tmp_path)) == {".hidden/a.png": 10, "picture.data": 20}


def test_the_first_of_two_rows_for_one_file_counts(tmp_path: Path) -> None:
    fill(tmp_path, "sub/a.png")
    rows(tmp_path, {"file_name": "sub/a.png", "text": "first"}, {"file_name": "./sub/a.png", "text": "second"})
    rows(tmp_path / "sub", {"file_name": "a.png", "text": "third"})
    with pytest.warns(InputWarning) as caught:
        (record,) = ready(tmp_path).records
    assert record.prompt == "first"
    first = f"sub/a.png is already in {tmp_path}/metadata.jsonl, line 1"
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path}/metadata.jsonl, line 2 is skipped: {first}",
        f"{tmp_path}/sub/metadata.jsonl, line 1 is skipped: {first}",
    ]


def test_every_unreadable_image_is_a_failure_of_its_batch(tmp_path: Path) -> None:
    fill(tmp_path, "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "dangling.png").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe.png")
    rows(tmp_path, {"file_name": "gone.png"}, {"file_name": "../out.png"}, {"file_name": "good.png/"})
    (batch,) = ready(tmp_path, batch_size=9).predict_dataloader()
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
    (batch,) = ready(tmp_path).predict_dataloader()
    assert batch.images.shape[0] == 0
    assert len(batch.failures) == 1


def test_a_name_that_is_not_utf_8_is_an_error_with_a_printable_name(tmp_path: Path) -> None:
    fill(tmp_path, "good.png")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")).touch()
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    data = ready(tmp_path)
    (batch,) = data.predict_dataloader()
    ((record, message),) = batch.failures
    assert record.file_name == "bad\\udcff.png"
    assert message == "its name is not valid UTF-8"
    assert loaded(data) == {"good.png": 10}


# What the user got wrong


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.root: .*/nowhere does not exist"):
        ready(tmp_path / "nowhere")


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.root: .*/a\.png is not a folder"):
        ready(fill(tmp_path, "a.png") / "a.png")


def test_a_folder_without_images_is_an_error_that_lists_the_suffixes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"data\.root: .* holds no images \(files ending in .*\.jpg, .*\.png"):
        ready(tmp_path)


@pytest.mark.parametrize(
    ("argument", "value", "least"), [("batch_size", 0, 1), ("num_workers", -1, 0), ("resolution", 7, 8)]
)
def test_an_argument_that_is_too_small_is_an_error(argument: str, value: int, least: int) -> None:
    with pytest.raises(InputError, match=rf"data\.{argument} must be {least} or more, but is {value}"):
        ImageFolderDataModule("photos", **{argument: value})


# Loading


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_the_order_of_the_records(tmp_path: Path, num_workers: int) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png")
    (tmp_path / "d.png").write_bytes(b"broken")
    batches = list(ready(tmp_path, batch_size=2, num_workers=num_workers).predict_dataloader())
    assert [[record.file_name for record in batch.records] for batch in batches] == [
        ["a.png", "b.png"],
        ["c.png"],
        ["e.png"],
    ]
    assert [round(batch.images.max().item() * 255) for batch in batches] == [20, 30, 50]
    assert [len(batch.failures) for batch in batches] == [0, 1, 0]


def test_a_batch_knows_the_size_of_every_original(tmp_path: Path) -> None:
    for name, size in (("a.png", (24, 8)), ("b.png", (8, 24)), ("d.png", (4, 4))):
        Image.new("L", size).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"broken")
    (batch,) = ready(tmp_path).predict_dataloader()
    assert [record.file_name for record in batch.records] == ["a.png", "b.png", "d.png"]
    assert batch.time_ids.tolist() == [[8, 24, 0, 8, 8, 8], [24, 8, 8, 0, 8, 8], [4, 4, 0, 0, 8, 8]]


SHAPES = {"a.png": (40, 40), "b.png": (80, 40), "c.png": (44, 40), "d.png": (40, 80), "e.png": (81, 40)}


def shapes(root: Path) -> Path:
    """Images (width, height) as `SHAPES` has them, one that is turned by its EXIF data, and one that is none."""
    for name, size in SHAPES.items():
        Image.new("RGB", size, "red").save(root / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 80), "red").save(root / "f.jpg", exif=exif)
    (root / "g.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_buckets_have_one_shape_each_and_contain_every_image_once(tmp_path: Path, num_workers: int) -> None:
    data = ready(shapes(tmp_path), resize="bucket", batch_size=2, num_workers=num_workers)
    data.resolution, data.size_multiple = 64, 4
    batches: list[ImageBatch] = list(data.predict_dataloader())
    found = [([record.file_name for record in batch.records], tuple(batch.images.shape[2:])) for batch in batches]
    assert found == [
        (["a.png"], (64, 64)),
        (["b.png", "e.png"], (44, 88)),
        (["c.png"], (60, 68)),
        (["d.png"], (88, 44)),
        (["f.jpg"], (44, 88)),
    ]
    assert [record.file_name for batch in batches for record, _ in batch.failures] == ["g.png"]
    assert batches[3].time_ids.tolist() == [[80, 40, 0, 0, 88, 44]]
    assert data.original("d.png").shape == (3, 88, 44)


@pytest.mark.parametrize(("resize", "top"), [("crop", 0.0), ("stretch", 0.0), ("pad", 1.0)])
def test_resize_selects_how_images_fill_the_square(tmp_path: Path, resize: str, top: float) -> None:
    Image.new("RGB", (80, 40), "red").save(tmp_path / "a.png")
    (batch,) = ready(tmp_path, resize=resize).predict_dataloader()
    assert batch.images.shape == (1, 3, 8, 8)
    assert batch.images[0, 1, 0].tolist() == [top] * 8


def test_excluded_images_are_not_loaded_but_stay_in_records(tmp_path: Path) -> None:
    data = ready(fill(tmp_path, "a.png", "b.png", "c.png"))
    data.exclude({"b.png", "unknown.png"})
    data.exclude(["a.png"])
    assert loaded(data) == {"c.png": 30}
    assert [record.file_name for record in data.records] == ["a.png", "b.png", "c.png"]
    data.exclude({"c.png"})
    assert loaded(data) == {}


def test_the_processes_share_the_images_without_overlap(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    shares = [loaded(ready(tmp_path, rank=rank, world_size=5)) for rank in range(5)]
    assert shares == [{"a.png": 10}, {"b.png": 20}, {"c.png": 30}, {}, {}]


def test_images_are_excluded_before_they_are_shared(tmp_path: Path) -> None:
    shares = []
    for rank in range(2):
        data = ready(fill(tmp_path, "a.png", "b.png", "c.png", "d.png"), rank=rank, world_size=2)
        data.exclude({"a.png", "c.png"})
        shares.append(loaded(data))
    assert shares == [{"b.png": 20}, {"d.png": 40}]


def test_the_original_equals_the_image_of_the_batch(tmp_path: Path) -> None:
    data = ready(fill(tmp_path, "a.png", "b.png"))
    (batch,) = data.predict_dataloader()
    torch.testing.assert_close(data.original("b.png"), batch.images[1], rtol=0, atol=0)


def test_the_original_of_an_unreadable_image_is_an_error(tmp_path: Path) -> None:
    rows(tmp_path, {"file_name": "gone.png"})
    with pytest.raises(UnreadableImageError, match="does not exist"):
        ready(tmp_path).original("gone.png")
    with pytest.raises(UnreadableImageError, match=r"other\.png is not in"):
        ready(tmp_path).original("other.png")


class Collect(L.LightningModule):
    """Keeps the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[ImageBatch] = []

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Predicts nothing."""
        self.batches.append(batch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("done", [set(), {"a.png", "b.png", "c.png"}])
def test_lightning_predicts_on_the_batches(tmp_path: Path, done: set[str]) -> None:
    warnings.simplefilter("ignore")
    fill(tmp_path, "a.png", "b.png", "c.png", "out/d.png")

    class Resumed(ImageFolderDataModule):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.exclude(done)

    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path / "out",
    )
    model = Collect()
    trainer.predict(model, Resumed(tmp_path, batch_size=2, resolution=8), return_predictions=False)
    assert [len(batch.records) for batch in model.batches] == ([] if done else [2, 1])


def test_help_explains_every_argument() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(ImageFolderDataModule, "data")
    text = " ".join(parser.format_help().split())
    for phrase in ("the folder that holds the data set", "images inverted together", "for images without text"):
        assert phrase in text
    assert parser.parse_args(["--data.root", "photos"]).data.batch_size == 4


def test_a_process_that_lists_other_images_than_the_first_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.png", "b.png")
    monkeypatch.setattr(images_data_module, "broadcast", lambda mine: (3, "another list"))
    with pytest.raises(InputError, match="holds 2 images here, others than the 3 of process 0"):
        ready(tmp_path)
