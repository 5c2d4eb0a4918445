from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_models.samples import edited_sample_scenes, photograph_samples, sample_scenes, scene_samples, write_samples
from tiny_models.scenes import COLORS, PATTERNS, SUBJECTS

DATA = Path(__file__).parents[2] / "data"
SHIPPED, SHIPPED_PHOTOGRAPHS = DATA / "images", DATA / "photographs"
Samples = Iterator[tuple[dict[str, str], Image.Image]]
JPEG_TOLERANCE = 8
"""Largest difference between JPEG libraries, in levels of 255."""


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def read_rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("shipped", "samples", "number"),
    [(SHIPPED, scene_samples, 16), (SHIPPED_PHOTOGRAPHS, photograph_samples, 4)],
    ids=["scenes", "photographs"],
)
def test_the_shipped_files_equal_those_that_the_script_writes(
    shipped: Path, samples: Callable[[], Samples], number: int, tmp_path: Path
) -> None:
    write_samples(tmp_path, samples())
    rows = read_rows(shipped)
    assert read_rows(tmp_path) == rows
    for row in rows:
        difference = np.abs(read_pixels(tmp_path / row["file_name"]) - read_pixels(shipped / row["file_name"]))
        assert difference.max() <= (JPEG_TOLERANCE if row["file_name"].endswith(".jpg") else 0)
    images = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.suffix in {".png", ".jpg"}}
    assert {row["file_name"] for row in rows} == images
    assert len(rows) == len(images) == number
    assert all(row["text"] and row["edit_text"] and row["text"] != row["edit_text"] for row in rows)


def test_the_prompts_describe_the_scenes() -> None:
    rows = read_rows(SHIPPED)
    for row, scene, edited in zip(rows, sample_scenes(), edited_sample_scenes(), strict=True):
        assert (row["text"], row["edit_text"]) == (scene.caption, edited.caption)
        assert row["file_name"].endswith(f"-{scene.subject}.png")
        assert (read_pixels(SHIPPED / row["file_name"]) == np.asarray(scene.draw())).all()


def test_the_samples_show_every_subject_color_and_pattern() -> None:
    scenes = sample_scenes()
    assert [scene.subject for scene in scenes] == list(SUBJECTS)
    assert {scene.color for scene in scenes} == set(COLORS)
    assert {scene.pattern for scene in scenes} == set(PATTERNS)


def test_photographs_are_square_rgb_images() -> None:
    for row, image in photograph_samples():
        assert (image.size, image.mode) == ((256, 256), "RGB")
        assert read_pixels(SHIPPED_PHOTOGRAPHS / row["file_name"]).shape == (256, 256, 3)
