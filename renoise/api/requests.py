"""What a run asks its editors to do with each image, and checks of the images and their texts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

from renoise.data.records import ImageRecord
from renoise.editing.base import EditRequest
from renoise.errors import InputError, InputWarning
from renoise.models.base import DiffusionModel

MaskOf = Callable[[str], torch.Tensor | None]


def edit_requests(records: Sequence[ImageRecord], mask_of: MaskOf | None) -> tuple[list[EditRequest], list[str | None]]:
    """Returns a request for each image, and why it is not to be edited, or None where it is.

    Args:
        records: Of B images.
        mask_of: Returns the mask of an image by its name, see `ImagesDataModule.mask`. An image without one is not to
            be edited. None edits whole images.
    """
    masks = [None if mask_of is None else _mask(mask_of, record.file_name) for record in records]
    requests = [
        EditRequest(record.file_name, record.prompt or "", record.edit_prompt, None if isinstance(mask, str) else mask)
        for record, mask in zip(records, masks, strict=True)
    ]
    return requests, [mask if isinstance(mask, str) else None for mask in masks]


def _mask(mask_of: MaskOf, file_name: str) -> torch.Tensor | str:
    """Returns the mask of an image, or the reason why there is none."""
    try:
        mask = mask_of(file_name)
    except InputError as error:
        return str(error)
    return "the image has no mask, which keep_outside_mask needs" if mask is None else mask


def warn_of_long_prompts(model: DiffusionModel, records: Sequence[ImageRecord]) -> None:
    """Warns of prompts that are longer than the text encoder takes."""
    for record in records:
        for name, prompt in (("prompt", record.prompt or ""), ("edit_text", record.edit_prompt or "")):
            if cut := model.split_prompt(prompt)[1]:
                text = f"{record.file_name}: the {name} is longer than the text encoder takes; cut off: {cut!r}"
                warnings.warn(text, InputWarning, stacklevel=2)


def check_size(model: DiffusionModel, checkpoint: str, height: int, width: int) -> None:
    """Raises InputError where a data module without `connect` gives images of a size that the model cannot take."""
    px = model.size_multiple
    if height % px or width % px:
        raise InputError(f"data.resolution must be a multiple of {px} for {checkpoint}, got {height}×{width}")
