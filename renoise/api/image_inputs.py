"""Images that a Python caller gives in any form, as one batch of pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from PIL import Image

from renoise.data.files import UnreadableImageError
from renoise.data.image_files import upright_size
from renoise.data.images import image_to_pixels, read_image, read_size
from renoise.data.resizing import time_ids
from renoise.errors import InputError

SingleImage = Image.Image | str | PathLike[str] | torch.Tensor
ImageInput = SingleImage | Sequence[SingleImage]
"""A PIL image, a path, a tensor [3, H, W] or [B, 3, H, W] in [0, 1], or a list of images."""


@dataclass(frozen=True)
class PreparedImages:
    """B images of one size.

    Args:
        pixels: float32 [B, 3, H, W] in [0, 1].
        names: B names, each of them once.
        time_ids: SDXL's sizes and crop offsets, float32 [B, 6].
    """

    pixels: torch.Tensor
    names: list[str]
    time_ids: torch.Tensor


def prepare_images(
    images: ImageInput, names: Sequence[str] | None, resolution: int | None, size_multiple: int
) -> PreparedImages:
    """Reads images and brings them to one size.

    Args:
        images: See `ImageInput`.
        names: A name for each image. None takes the names of files.
        resolution: Side in pixels of the square to crop and resize to. None keeps the images' sizes.
        size_multiple: Height and width must be multiples of this.

    Raises:
        InputError: An image cannot be read or has a size that the model cannot take; sizes differ; the resolution is no
            positive multiple of `size_multiple`; names are not one for each image, or not different.
    """
    if resolution is not None and (resolution < 1 or resolution % size_multiple):
        raise InputError(f"resolution must be a positive multiple of {size_multiple}, got {resolution}")
    singles = _singles(images)
    if not singles:
        raise InputError("images must hold at least one image, got an empty list")
    labels = [_name(image, position) for position, image in enumerate(singles)]
    if names is not None:
        labels = one_for_each(list(names), len(singles), "names")
    if len(set(labels)) < len(labels):
        raise InputError(f"names must differ, got {', '.join(labels)}; give one for each image")
    read = [_read(image, resolution, label) for image, label in zip(singles, labels, strict=True)]
    for label, (pixels, _) in zip(labels, read, strict=True):
        _check_size(label, pixels, size_multiple, read[0][0])
    time_id_rows = torch.tensor([ids for _, ids in read], dtype=torch.float32)
    return PreparedImages(torch.stack([pixels for pixels, _ in read]), labels, time_id_rows)


def one_for_each(value: str | Sequence[str], count: int, argument: str) -> list[str]:
    """Returns `count` strings: those given, or a single one repeated.

    Raises:
        InputError: There are several strings, but not `count`.
    """
    values = [value] * count if isinstance(value, str) else list(value)
    if len(values) != count:
        raise InputError(f"{argument} must be one for each of the {count} images, got {len(values)}")
    return values


def _singles(images: ImageInput) -> list[SingleImage]:
    if isinstance(images, torch.Tensor):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, Image.Image | str | PathLike) else list(images)


def _name(image: SingleImage, position: int) -> str:
    return Path(os.fspath(image)).stem if isinstance(image, str | PathLike) else f"image-{position}"


def _read(image: SingleImage, resolution: int | None, name: str) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Returns the pixels [3, H, W] of an image, and its time ids."""
    try:
        if isinstance(image, Image.Image):
            return image_to_pixels(image, resolution or upright_size(image), name=name)
        if isinstance(image, torch.Tensor):
            return _read_tensor(image, resolution, name)
        if isinstance(image, str | PathLike):
            path = Path(os.fspath(image))
            size = resolution or read_size(path) or 1  # a file without a size fails in `read_image`, which says why
            content = read_image(path, size)
            return content.pixels, content.time_ids
    except UnreadableImageError as error:
        raise InputError(f"images: {image if isinstance(image, str | PathLike) else name} {error}") from error
    raise InputError(f"images must be PIL images, paths or tensors, got {type(image).__name__}")


def _read_tensor(image: torch.Tensor, resolution: int | None, name: str) -> tuple[torch.Tensor, tuple[int, ...]]:
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point() or image.numel() == 0:
        raise InputError(
            f"images: {name} must be a float tensor [3, H, W] in [0, 1], got {image.dtype} {list(image.shape)}"
        )
    if not (image.min() >= 0 and image.max() <= 1):
        raise InputError(f"images: {name} must be in [0, 1], got {image.min():g} to {image.max():g}")
    height, width = image.shape[1:]
    if resolution is not None and (height, width) != (resolution, resolution):
        raise InputError(f"images: {name} is a tensor of {height}×{width}; resolution is for PIL images and files")
    return image.float().cpu(), time_ids(height, width, (height, width))


def _check_size(name: str, pixels: torch.Tensor, size_multiple: int, first: torch.Tensor) -> None:
    height, width = pixels.shape[1:]
    if height % size_multiple or width % size_multiple:
        raise InputError(
            f"images: {name} is {height}×{width}, and the model takes multiples of {size_multiple}; "
            "give resolution to crop and resize"
        )
    if pixels.shape != first.shape:
        raise InputError(
            f"images: {name} is {height}×{width}, and the first image is {first.shape[1]}×{first.shape[2]}; "
            "images of one call must have one size: give resolution, or call once for each size"
        )
