"""The picture of the command, and what its options say about it: checked before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from renoise.data.captioner import Captioner, CaptionerConfig
from renoise.data.files import UnreadableImageError
from renoise.data.images import read_image, read_size
from renoise.data.masks import fit_mask, read_mask
from renoise.errors import InputError, prefixed
from renoise.presets import read_preset
from renoise.utils.files import write_atomically
from renoise.utils.hub import is_at_hand

MAX_NAME = 50
"""Characters of a picture's name, or of a text, that the name of an output has."""


@dataclass(frozen=True)
class Picture:
    """An image file that can be read.

    Args:
        path: The file.
        sha256: Hash of its bytes, in hexadecimal.
        size: Its (height, width) in pixels.
        mask: Where an edit may change it, bool [height, width]. None where it may everywhere.
    """

    path: Path
    sha256: str
    size: tuple[int, int]
    mask: Tensor | None = None

    @property
    def name(self) -> str:
        """What the names of its outputs begin with."""
        return self.path.stem[:MAX_NAME]

    def pixels(self, resolution: int) -> Tensor:
        """Returns the middle square, float32 [3, resolution, resolution] in [0, 1]."""
        return read_image(self.path, resolution).pixels

    def keep_outside_of_mask(self, edited: Tensor) -> Tensor:
        """Returns an edit with the pixels of the picture where the mask is black.

        Args:
            edited: [3, H, W] in [0, 1], the edited middle square.
        """
        if self.mask is None:
            return edited
        height, width = edited.shape[1:]
        return torch.where(fit_mask(self.mask, (height, width), "crop"), edited, self.pixels(height))


def open_picture(path: Path, mask: Path | None = None) -> Picture:
    """Reads a picture and its mask, to know that both can be read.

    Args:
        path: The image file.
        mask: A picture of the image's size, white where an edit may change it.

    Raises:
        InputError: A file is no picture that can be read, or they differ in size.
    """
    size = read_size(path)
    try:
        content = read_image(path, 8)
    except UnreadableImageError as error:
        raise InputError(f"{path} {error}") from error
    assert size is not None, "a picture that can be read has a size"
    if mask is None:
        return Picture(path, content.sha256, size)
    with prefixed("mask: "):
        return Picture(path, content.sha256, size, read_mask(mask, size))


def captioner_config(preset: str) -> CaptionerConfig | None:
    """Returns the captioner of a preset. None if it has none."""
    config = read_preset(preset).get("data", {}).get("init_args", {}).get("captioner")
    return None if config is None else CaptionerConfig(**config)


def caption(picture: Picture, preset: str, folder: Path) -> str:
    """Returns what a picture shows, by the captioner of a preset. It is kept in a file.

    Args:
        picture: The picture.
        preset: Name of the preset.
        folder: Where captions are kept.

    Raises:
        InputError: The preset has no captioner, or it is not on this machine.
    """
    config = captioner_config(preset)
    checkpoint = "none in the preset" if config is None else config.checkpoint
    kept = folder / f"{picture.name}-{picture.sha256[:16]}.txt"
    if kept.exists():
        return kept.read_text(encoding="utf-8").strip()
    if config is None or not is_at_hand(checkpoint):
        raise InputError(
            f"{picture.path} has no text, and its captioner, {checkpoint}, is not on this machine; say first what the "
            f'picture shows: renoise edit {os.path.basename(picture.path)} "a cat on a sofa" "a dog on a sofa"'
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    (text,) = Captioner(config)(picture.pixels(512)[None].to(device))
    if not text:
        raise InputError(f"{checkpoint} found no text for {picture.path}; say what it shows")
    write_atomically(kept, text.encode())
    return text
