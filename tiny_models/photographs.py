"""Random crops of photographs, so that the miniature autoencoder also works on ordinary images.

The photographs are part of scikit-image (public domain, CC0), scikit-learn (china.jpg and flower.jpg, CC BY 2.0 by
danielbuechele and vultilion) and matplotlib (Grace Hopper, public domain). This project contains no copy of them. The
photographs that it ships as samples (astronaut, chelsea, coffee, rocket) are not used, so they stay unseen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.resources import as_file, files

from PIL import Image, ImageOps

from tiny_models.scenes import SIDE

TRAINING_PHOTOGRAPHS = {
    "skimage.data": ("camera.png", "motorcycle_left.png", "ihc.png", "retina.jpg"),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}


def random_crops(count: int, seed: int, size: int = SIDE) -> Iterator[Image.Image]:
    """Yields square RGB crops of random position and scale. Half of them are mirrored.

    The color channels of every crop are in random order, because a few photographs have few colors.

    Args:
        count: Number of crops.
        seed: Seed of all random numbers.
        size: Side of a crop, in pixels.
    """
    rng = random.Random(seed)
    photographs = list(_photographs())
    for _ in range(count):
        photograph = rng.choice(photographs)
        side = rng.randint(size, min(photograph.size))
        left, top = rng.randint(0, photograph.width - side), rng.randint(0, photograph.height - side)
        crop = photograph.resize(
            (size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side), reducing_gap=3.0
        )
        channels = list(crop.split())
        rng.shuffle(channels)
        crop = Image.merge("RGB", channels)
        yield ImageOps.mirror(crop) if rng.random() < 0.5 else crop


def _photographs() -> Iterator[Image.Image]:
    for package, names in TRAINING_PHOTOGRAPHS.items():
        for name in names:
            with as_file(files(package).joinpath(name)) as path, Image.open(path) as photograph:
                yield photograph.convert("RGB")
