from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers.data_sets import gray_levels, image_folder, write_gray_images, write_metadata
from jsonargparse import ArgumentParser
from PIL import Image

from renoise.data import (
    CaptionerConfig,
    CocoCaptionsDataModule,
    ImageBatch,
    ImageFolderDataModule,
    ImageRecord,
    ImagesDataModule,
    UnreadableImageError,
    records,
)
from renoise.errors import InputError


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Makes a warning that a test does not expect an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_root_with_a_tilde_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(write_gray_images(tmp_path, "photos/a.png")))
    assert [record.file_name for record in image_folder(Path("~/photos")).records] == ["a.png"]


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.root: .*/nowhere does not exist"):
        image_folder(tmp_path / "nowhere")


def test_a_root_that_is_a_file_is_an_error_where_the_data_set_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.root: .*/a\.png is not a folder"):
        CocoCaptionsDataModule(write_gray_images(tmp_path, "a.png") / "a.png").setup("predict")


@pytest.mark.parametrize(
    ("argument", "value", "least"), [("batch_size", 0, 1), ("num_workers", -1, 0), ("resolution", 7, 8)]
)
def test_an_argument_that_is_too_small_is_an_error(argument: str, value: int, least: int) -> None:
    with pytest.raises(InputError, match=rf"^{argument} must be {least} or more, got {value}$"):
        ImageFolderDataModule("photos", **{argument: value})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_the_order_of_the_records(tmp_path: Path, num_workers: int) -> None:
    write_gray_images(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png")
    (tmp_path / "d.png").write_bytes(b"broken")
    batches = list(image_folder(tmp_path, batch_size=2, num_workers=num_workers).predict_dataloader())
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
    (batch,) = image_folder(tmp_path).predict_dataloader()
    assert [record.file_name for record in batch.records] == ["a.png", "b.png", "d.png"]
    assert batch.time_ids.tolist() == [[8, 24, 0, 8, 8, 8], [24, 8, 8, 0, 8, 8], [4, 4, 0, 0, 8, 8]]


SHAPES = {"a.png": (40, 40), "b.png": (80, 40), "c.png": (44, 40), "d.png": (40, 80), "e.png": (81, 40)}


def shapes(root: Path) -> Path:
    """Writes the images of `SHAPES` (width, height), one that its EXIF orientation turns, and one that is damaged."""
    for name, size in SHAPES.items():
        Image.new("RGB", size, "red").save(root / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 80), "red").save(root / "f.jpg", exif=exif)
    (root / "g.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_buckets_have_one_shape_each_and_contain_every_image_once(tmp_path: Path, num_workers: int) -> None:
    data = image_folder(shapes(tmp_path), resolution=64, resize="bucket", batch_size=2, num_workers=num_workers)
    data.connect(size_multiple=4, prepare=lambda batch: batch)
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
    (batch,) = image_folder(tmp_path, resize=resize).predict_dataloader()
    assert batch.images.shape == (1, 3, 8, 8)
    assert batch.images[0, 1, 0].tolist() == [top] * 8


def test_excluded_images_are_not_loaded_but_stay_in_records(tmp_path: Path) -> None:
    data = image_folder(write_gray_images(tmp_path, "a.png", "b.png", "c.png"))
    data.exclude({"b.png", "unknown.png"})
    data.exclude(["a.png"])
    assert gray_levels(data) == {"c.png": 30}
    assert [record.file_name for record in data.records] == ["a.png", "b.png", "c.png"]
    data.exclude({"c.png"})
    assert gray_levels(data) == {}


def test_a_limit_takes_the_first_images_and_is_no_setting(tmp_path: Path) -> None:
    root = write_gray_images(tmp_path, "a.png", "b.png", "c.png")
    data = image_folder(root, limit=2)
    assert gray_levels(data) == {"a.png": 10, "b.png": 20}
    assert data.settings == image_folder(root).settings  # a larger limit continues the run of a smaller one


def test_texts_of_the_data_set_can_be_left_out(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}')
    (record,) = image_folder(tmp_path, use_text=False, prompt="an animal").records
    assert (record.prompt, record.edit_prompt) == ("an animal", "a dog")


def test_an_edit_text_is_for_images_that_have_none(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "b.png", "c.png")
    write_metadata(tmp_path, {"file_name": "a.png", "edit_text": "a dog"}, {"file_name": "b.png", "edit_text": None})
    records = image_folder(tmp_path, edit_text="a fox", use_text=False, prompt="a cat").records
    assert [(record.prompt, record.edit_prompt) for record in records] == [
        ("a cat", "a dog"),
        ("a cat", "a fox"),
        ("a cat", "a fox"),
    ]
    assert image_folder(tmp_path).records[1].edit_prompt is None


def test_the_processes_share_the_images_without_overlap(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png", "b.png", "c.png")
    shares = [gray_levels(image_folder(tmp_path, rank=rank, world_size=5)) for rank in range(5)]
    assert shares == [{"a.png": 10}, {"b.png": 20}, {"c.png": 30}, {}, {}]


def test_images_are_excluded_before_they_are_shared(tmp_path: Path) -> None:
    shares = []
    for rank in range(2):
        data = image_folder(write_gray_images(tmp_path, "a.png", "b.png", "c.png", "d.png"), rank=rank, world_size=2)
        data.exclude({"a.png", "c.png"})
        shares.append(gray_levels(data))
    assert shares == [{"b.png": 20}, {"d.png": 40}]


def test_the_original_equals_the_image_of_the_batch(tmp_path: Path) -> None:
    data = image_folder(write_gray_images(tmp_path, "a.png", "b.png"))
    (batch,) = data.predict_dataloader()
    torch.testing.assert_close(data.original("b.png"), batch.images[1], rtol=0, atol=0)


def test_the_original_of_an_unreadable_image_is_an_error(tmp_path: Path) -> None:
    write_metadata(tmp_path, {"file_name": "gone.png"})
    with pytest.raises(UnreadableImageError, match="does not exist"):
        image_folder(tmp_path).original("gone.png")
    with pytest.raises(UnreadableImageError, match=r"other\.png is not in"):
        image_folder(tmp_path).original("other.png")


def test_help_explains_every_argument() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(ImageFolderDataModule, "data")
    text = " ".join(parser.format_help().split())
    for phrase in (
        "The folder that contains the data set",
        "Number of images that are inverted together",
        "Prompt of images without a text",
    ):
        assert phrase in text
    assert parser.parse_args(["--data.root", "photos"]).data.batch_size == 4


def test_a_process_that_lists_other_images_than_the_first_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gray_images(tmp_path, "a.png", "b.png")
    monkeypatch.setattr(records, "broadcast", lambda mine: (3, "another list"))
    with pytest.raises(InputError, match="contains 2 images in this process and 3 in process 0"):
        image_folder(tmp_path)


def test_a_prompt_and_a_captioner_together_are_an_error() -> None:
    with pytest.raises(InputError, match=r"^prompt must be empty where there is a captioner, got 'a photo'"):
        ImageFolderDataModule("photos", prompt="a photo", captioner=CaptionerConfig("blip2"))


# Settings


def test_settings_are_the_class_and_the_arguments_that_results_depend_on(tmp_path: Path) -> None:
    data = ImageFolderDataModule("photos", batch_size=9, num_workers=3, resolution=64, resize="pad", prompt="a photo")
    assert data.settings == {
        "class_path": "renoise.data.image_folder.ImageFolderDataModule",
        "root": "photos",
        "resolution": 64,
        "resize": "pad",
        "prompt": "a photo",
        "edit_text": None,
        "use_text": True,
        "captioner": None,
    }


def test_settings_of_a_subclass_have_its_arguments_and_all_defaults() -> None:
    settings = CocoCaptionsDataModule("coco", annotations="x.json").settings
    assert settings.pop("class_path") == "renoise.data.coco_captions.CocoCaptionsDataModule"
    assert settings == {
        "root": "coco",
        "annotations": "x.json",
        "images": "val2017",
        "min_side": 420,
        "captions": True,
        "resolution": 512,
        "resize": "crop",
        "prompt": "",
        "captioner": None,
    }
    given = {"batch_size": 4, "num_workers": 0, "resolution": 512, "resize": "crop", "prompt": "", "captioner": None}
    assert CocoCaptionsDataModule("coco", "x.json", **given).settings.items() >= settings.items()


def test_settings_have_one_form_of_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "blip2").mkdir()
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    for root in ("photos", "./photos/../link", tmp_path / "photos"):
        settings = ImageFolderDataModule(root, captioner=CaptionerConfig("./blip2")).settings
        assert settings["root"] == str(tmp_path / "photos")
        assert settings["captioner"] == {"checkpoint": str(tmp_path / "blip2"), "max_new_tokens": 30}
    by_hub_id = ImageFolderDataModule("photos", captioner=CaptionerConfig("Salesforce/blip2-opt-2.7b")).settings
    assert by_hub_id["captioner"]["checkpoint"] == "Salesforce/blip2-opt-2.7b"


# Connecting the model


@pytest.mark.parametrize(("resolution", "nearest"), [(42, "40 or 44"), (63, "60 or 64")])
def test_a_resolution_that_the_model_cannot_take_is_an_error(resolution: int, nearest: str) -> None:
    data = ImageFolderDataModule("photos", resolution=resolution)
    with pytest.raises(InputError) as raised:
        data.connect(size_multiple=4, prepare=lambda batch: batch)
    problem = f"data.resolution must be a multiple of 4, got {resolution}; set it to {nearest}"
    assert str(raised.value) == problem


def test_a_resolution_below_the_multiple_has_one_nearest_value() -> None:
    with pytest.raises(InputError, match=r"must be a multiple of 16, got 8; set it to 16$"):
        ImageFolderDataModule("photos", resolution=8).connect(size_multiple=16, prepare=lambda batch: batch)


def test_batches_are_prepared_by_the_function_that_is_connected(tmp_path: Path) -> None:
    def negative(batch: ImageBatch) -> ImageBatch:
        batch.images = 1 - batch.images
        return batch

    data = image_folder(write_gray_images(tmp_path, "a.png", "b.png"))
    data.connect(size_multiple=8, prepare=negative)
    assert gray_levels(data) == {"a.png": 245, "b.png": 235}


# The Trainer


class Collect(L.LightningModule):
    """Keeps the batches that it gets. It prepares batches as `ReNoiseModule` does."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[ImageBatch] = []

    def configure_model(self) -> None:
        """Connects the data module."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        datamodule.connect(size_multiple=8, prepare=self.trainer.strategy.batch_to_device)

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Predicts nothing."""
        self.batches.append(batch)


def predict(data: ImagesDataModule, output: Path) -> list[ImageBatch]:
    """Returns the batches of a Trainer that has no writer."""
    warnings.simplefilter("ignore")  # Lightning's advice about the Trainer
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=output,
    )
    module = Collect()
    trainer.predict(module, data, return_predictions=False)
    return module.batches


@pytest.mark.parametrize("done", [set(), {"a.png", "b.png", "c.png"}])
def test_lightning_predicts_on_the_batches(tmp_path: Path, done: set[str]) -> None:
    write_gray_images(tmp_path, "a.png", "b.png", "c.png", "out/d.png")

    class Resumed(ImageFolderDataModule):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.exclude(done)

    batches = predict(Resumed(tmp_path, batch_size=2, resolution=8), tmp_path / "out")
    assert [len(batch.records) for batch in batches] == ([] if done else [2, 1])


def test_a_trainer_without_the_writer_captions_images_and_keeps_the_captions(tmp_path: Path, tiny_blip2: Path) -> None:
    root, output = write_gray_images(tmp_path / "photos", "a.png", "b.png", "c.png"), tmp_path / "out"
    write_metadata(root, {"file_name": "b.png", "text": "a gray square"})
    data = ImageFolderDataModule(root, batch_size=2, resolution=64, captioner=CaptionerConfig(str(tiny_blip2)))
    prompts = {record.file_name: record.prompt for batch in predict(data, output) for record in batch.records}
    assert prompts["b.png"] == "a gray square"
    assert all(isinstance(prompts[name], str) for name in ("a.png", "c.png"))
    assert (output / "captions.jsonl").read_text(encoding="utf-8").count("\n") == 2
    again = ImageFolderDataModule(root, resolution=64, captioner=CaptionerConfig("no/such/checkpoint"))
    (batch,) = predict(again, output)
    assert {record.file_name: record.prompt for record in batch.records} == prompts, "known captions need no captioner"


# Subclasses


def test_a_subclass_needs_only_find_records(tmp_path: Path) -> None:
    class Reversed(ImagesDataModule):
        def find_records(self) -> list[ImageRecord]:
            return [ImageRecord(path.name, path) for path in sorted(self.root.glob("*.png"), reverse=True)]

    data = Reversed(write_gray_images(tmp_path, "a.png", "b.png"), resolution=8, prompt="a photo")
    data.setup("predict")
    assert [(record.file_name, record.prompt) for record in data.records] == [
        ("b.png", "a photo"),
        ("a.png", "a photo"),
    ]
    assert gray_levels(data) == {"b.png": 20, "a.png": 10}
    assert data.settings["prompt"] == "a photo"


def test_a_subclass_without_find_records_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="find_records"):
        type("Nothing", (ImagesDataModule,), {})("photos")
