"""Inversions that are kept, so that another edit of a picture takes only the way back."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from renoise.api.inverted_images import SUFFIX, InvertedImages
from renoise.api.pipeline import InversionPipeline
from renoise.api.saved import load_inversion
from renoise.errors import InputError
from renoise.one_image.picture import Picture
from renoise.outputs.images import to_png
from renoise.utils.files import write_atomically

INVERSIONS = "inversions"


@dataclass(frozen=True)
class Inverted:
    """The inversion of the picture.

    Args:
        images: The inversion, of one image.
        reconstruction: What it is sampled to.
        file: Where it is kept.
        origin: Where it comes from, in words.
    """

    images: InvertedImages
    reconstruction: Image.Image
    file: Path
    origin: str


def invert_or_keep(picture: Picture, text: str, resolution: int, pipeline: InversionPipeline, folder: Path) -> Inverted:
    """Returns the inversion of a picture: the one that is kept, or a new one, which is then kept.

    Its file is named after everything that it depends on: the bytes of the picture, the text and all settings. A file
    that is damaged is replaced.

    Args:
        picture: The picture.
        text: What it shows.
        resolution: Side of the square that it is brought to, in pixels.
        pipeline: The model and the settings.
        folder: The output folder.

    Raises:
        InputError: The picture cannot be inverted.
        OSError: The file system refuses.
    """
    depends_on = [pipeline.settings, picture.sha256, picture.path.stem, text, resolution]
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / INVERSIONS / f"{picture.name}-{key}{SUFFIX}"
    kept = _kept(file, pipeline)
    return invert_anew(picture, text, resolution, pipeline, file) if kept is None else kept


def invert_anew(picture: Picture, text: str, resolution: int, pipeline: InversionPipeline, file: Path) -> Inverted:
    """Inverts a picture, and keeps the inversion in a file and the reconstruction beside it.

    Args:
        picture: The picture.
        text: What it shows.
        resolution: Side of the square that it is brought to, in pixels.
        pipeline: The model and the settings.
        file: The file of the inversion.

    Raises:
        InputError: The picture cannot be inverted.
        OSError: The file system refuses.
    """
    started = time.perf_counter()
    keep_trajectory = pipeline.num_inversion_steps is None  # edits with a strength below 1 begin there
    images = pipeline.invert(picture.path, text, resolution=resolution, keep_trajectory=keep_trajectory)
    origin = f"{int(images.inversion.nfe)} network calls in {time.perf_counter() - started:.1f} s"
    (reconstruction,) = images.reconstruct()
    write_atomically(file.with_suffix(".png"), to_png(reconstruction))
    images.save(file)
    return Inverted(images, reconstruction, file, origin)


def _kept(file: Path, pipeline: InversionPipeline) -> Inverted | None:
    """Returns the inversion that is kept in a file. None if there is none, or if it is damaged."""
    try:
        images = load_inversion(file, pipeline)
        with Image.open(file.with_suffix(".png")) as opened:
            return Inverted(images, opened.convert("RGB"), file, "kept from an earlier edit")
    except (InputError, OSError, SyntaxError):
        return None
