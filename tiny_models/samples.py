"""Draws the sample images in `data/images` and `data/photographs`: `python -m tiny_models.samples`.

`data/images` has sixteen unseen scenes, one of each subject, whose edits have a known correct result.
`data/photographs` has four photographs, which the shipped models cannot draw. They are part of scikit-image;
`LICENSES.md` there names their authors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from tiny_models.scenes import SUBJECTS, Scene, random_scenes, with_other_subjects

SAMPLES_SEED = 2041
"""Seed that no model trains on. It was chosen because its samples show every color and every pattern."""
PHOTOGRAPH_SIZE = 256


class Photograph(NamedTuple):
    """A file in `skimage.data`, its prompt and the prompt of its edit."""

    source: str
    text: str
    edit_text: str


PHOTOGRAPHS = (
    Photograph("astronaut.png", "a photograph of an astronaut", "a photograph of a monkey"),
    Photograph("chelsea.png", "a photograph of a cat", "a photograph of a dog"),
    Photograph("coffee.png", "a photograph of a cup of coffee", "a photograph of a bowl of soup"),
    Photograph("rocket.jpg", "a photograph of a rocket", "a photograph of a lighthouse"),
)


def sample_scenes() -> list[Scene]:
    """Returns the first scene of each subject from seed `SAMPLES_SEED`, in the order of `SUBJECTS`."""
    first: dict[str, Scene] = {}
    for scene in random_scenes(8 * len(SUBJECTS), SAMPLES_SEED):
        first.setdefault(scene.subject, scene)
    return [first[subject] for subject in SUBJECTS]


def edited_sample_scenes() -> list[Scene]:
    """Returns the same scenes with other subjects: the correct results of the samples' `edit_text`."""
    return with_other_subjects(sample_scenes(), SAMPLES_SEED)


def sample_photographs() -> Iterator[Image.Image]:
    """Yields the central square of each of `PHOTOGRAPHS`, RGB, with a side of `PHOTOGRAPH_SIZE` pixels."""
    for photograph in PHOTOGRAPHS:
        with as_file(files("skimage.data").joinpath(photograph.source)) as path, Image.open(path) as image:
            yield ImageOps.fit(image.convert("RGB"), (PHOTOGRAPH_SIZE,) * 2, Image.Resampling.LANCZOS)


def scene_samples() -> Iterator[tuple[dict[str, str], Image.Image]]:
    """Yields each scene's row of `metadata.jsonl` and its image."""
    for number, (scene, edited) in enumerate(zip(sample_scenes(), edited_sample_scenes(), strict=True)):
        file_name = f"scenes/{number:02d}-{scene.subject}.png"
        yield {"file_name": file_name, "text": scene.caption, "edit_text": edited.caption}, scene.draw()


def photograph_samples() -> Iterator[tuple[dict[str, str], Image.Image]]:
    """Yields the same of each photograph."""
    for photograph, image in zip(PHOTOGRAPHS, sample_photographs(), strict=True):
        file_name = f"{Path(photograph.source).stem}.jpg"
        yield {"file_name": file_name, "text": photograph.text, "edit_text": photograph.edit_text}, image


def write_samples(folder: Path, samples: Iterable[tuple[dict[str, str], Image.Image]]) -> None:
    """Writes samples and their `metadata.jsonl` to `folder`."""
    rows = []
    for row, image in samples:
        path = folder / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=92, optimize=True)
        rows.append(json.dumps(row) + "\n")
    (folder / "metadata.jsonl").write_text("".join(rows))


if __name__ == "__main__":
    write_samples(Path("data/images"), scene_samples())
    write_samples(Path("data/photographs"), photograph_samples())
