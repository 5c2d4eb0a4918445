"""Sample scenes, and grids of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure, SubFigure
from PIL import Image

from tiny_models.samples import edited_sample_scenes, sample_scenes


@dataclass(frozen=True)
class Samples:
    """Sample scenes: their pictures, captions, and captions with another animal."""

    pictures: Sequence[Image.Image]
    captions: Sequence[str]
    targets: Sequence[str]


def samples(first: int, last: int) -> Samples:
    """Returns the sample scenes first, …, last - 1, which no model was trained on."""
    scenes, edited = sample_scenes()[first:last], edited_sample_scenes()[first:last]
    captions, targets = ([scene.caption for scene in each] for each in (scenes, edited))
    return Samples([scene.draw() for scene in scenes], captions, targets)


def animals(scenes: Samples) -> list[str]:
    """Returns the animal of each scene and the one that replaces it."""
    pairs = zip(scenes.captions, scenes.targets, strict=True)
    return [f"{caption.split()[1]} → {target.split()[1]}" for caption, target in pairs]


def draw_grid(
    figure: Figure | SubFigure, columns: Mapping[str, Sequence[Image.Image]], rows: Sequence[str] = ()
) -> None:
    """Draws pictures in columns with titles, and the names of the rows at their left."""
    axes = figure.subplots(len(next(iter(columns.values()))), len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0][column].set_title(title, fontsize=8)
        for row, picture in enumerate(pictures):
            axis = axes[row][column]
            axis.imshow(picture, interpolation="lanczos")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for row, name in enumerate(rows):
        axes[row][0].set_ylabel(name, fontsize=7)
