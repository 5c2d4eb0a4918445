"""Masks of the region that an edit should change: read from files, and cropped and resized like their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from renoise.data.files import UnreadableImageError
from renoise.data.images import read_image, read_size
from renoise.data.resizing import Fit, crop_box, resize_into
from renoise.errors import InputError


def read_mask(path: Path, image_size: tuple[int, int]) -> Tensor:
    """Returns a mask that is an image file, bool [H, W]: what is lighter than middle gray may be edited.

    Args:
        path: The file.
        image_size: (height, width) of the image that it belongs to, in pixels.

    Raises:
        InputError: The file cannot be read, or has another size than the image.
    """
    size = read_size(path)
    if size is None:
        raise UnreadableImageError(f"{path} is not an image that can be read")
    if size != image_size:
        found, expected = (f"{width}×{height}" for height, width in (size, image_size))
        raise InputError(f"{path} has {found} pixels and the image {expected}; a mask has the size of its image")
    return read_image(path, size, "stretch").pixels.mean(dim=0) > 0.5


def fit_mask(mask: Tensor, size: tuple[int, int], fit: Fit) -> Tensor:
    """Returns a mask at the target size of its image, bool [height, width]. White margins are not edited.

    Args:
        mask: At the size of the image, bool [H, W].
        size: Target size, (height, width) in pixels.
        fit: How the image is fitted to the target size.
    """
    # Pillow resizes images of one bit to the nearest pixel, with every filter. What is not edited is white, as margins
    # are.
    unedited = Image.fromarray(~mask.numpy())
    height, width = mask.shape
    visible = unedited.crop(crop_box(height, width, size, fit))
    return torch.from_numpy(~np.array(resize_into(visible, size, fit)))
