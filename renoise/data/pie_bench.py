"""PIE-Bench: images to edit, with source and target prompts and masks (arXiv 2310.01506)."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor

from renoise.data.batch import ImageRecord
from renoise.data.images import UnreadableImageError, read_size
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.json_files import check_folder, read_json
from renoise.data.metadata import file_record, printable
from renoise.data.resizing import place, shown
from renoise.errors import InputError, InputWarning

SIDE = 512
"""Pixels of PIE-Bench's images and masks."""
PROMPTS = {"original_prompt": "text", "editing_prompt": "edit_text"}


class PIEBenchDataModule(ImagesDataModule):
    """PIE-Bench's images; its columns, `mask` among them, pass through to the manifest, `id` being the key.

    Args:
        root: the folder that the next two are in.
        mapping_file: what says which images there are.
        images: the folder of images.
        kwargs: what all data sets take.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        mapping_file: str = "mapping_file.json",
        images: str = "annotation_images",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.mapping_file, self.images = mapping_file, images

    def find_records(self) -> list[ImageRecord]:
        """The images in the mapping file's order, their prompts without the brackets around what changes.

        Raises:
            InputError: the mapping file cannot be read, is not PIE-Bench's, or names no image; there is no folder of
                images.
        """
        path = self.root / self.mapping_file
        content = read_json(path, "data.mapping_file")
        if not isinstance(content, dict) or not content:
            raise InputError(f"data.mapping_file: {path} must be an object of one entry per image, and has none")
        check_folder(self.root / self.images, "data.images")
        records: dict[str, ImageRecord] = {}
        skipped = []
        for key, entry in content.items():
            where = printable(f"{path}, {key}")
            if not isinstance(entry, dict) or not isinstance(entry.get("image_path"), str) or not entry["image_path"]:
                skipped.append(f'{where} is not an object with an "image_path"')
                continue
            columns = {**entry, "id": key}
            name = posixpath.normpath(columns.pop("image_path"))
            if name in records:
                skipped.append(f"{where} is skipped: {printable(name)} is in it already")
                continue
            for column, renamed in PROMPTS.items():
                columns[renamed] = _without_brackets(columns.pop(column, None))
            records[name] = file_record(self.root / self.images, name, where, columns, self.prompt)
        if not records:
            raise InputError(f"data.mapping_file: {skipped[0]}")
        for problem in skipped:
            rank_zero_warn(problem, category=InputWarning)
        return list(records.values())

    def mask(self, file_name: str, with_border: bool = True) -> Tensor:
        """Where an image may be edited, bool [H, W] in the frame that it is brought to; margins are kept.

        Args:
            file_name: which image.
            with_border: see `decode_mask`.

        Raises:
            KeyError: there is no such image.
            UnreadableImageError: it cannot be read.
            InputError: its mask cannot be.
        """
        record = {record.file_name: record for record in self.records}[file_name]
        size = read_size(record.source) if record.error is None else None
        if size is None:
            raise UnreadableImageError(f"{file_name}: {record.error or 'no image that can be read'}")
        try:
            mask = decode_mask(record.extra.get("mask"), *size, with_border)
        except InputError as error:
            raise InputError(f"data.mapping_file: {file_name}: {error}") from None
        frame = self._frame(record)
        # Pillow resizes pictures of one bit to the nearest pixel, whatever the filter. What is kept is white, as
        # margins are.
        kept = Image.fromarray(~mask.numpy())
        return torch.from_numpy(~np.array(place(kept.crop(shown(*size, frame, self._fit)), frame, self._fit)))


def decode_mask(runs: Any, height: int = SIDE, width: int = SIDE, with_border: bool = True) -> Tensor:
    """PIE-Bench's mask as bool [height, width].

    Args:
        runs: start and length of each run of ones, in turn, in the flattened image; what goes beyond it is cut off.
        height: of the image in pixels.
        width: of the image in pixels.
        with_border: whether the outermost rows and columns are set, as PIE-Bench's own evaluation does.

    Raises:
        InputError: they are no such list.
    """
    if not isinstance(runs, Sequence) or len(runs) % 2 or not all(type(each) is int and each >= 0 for each in runs):
        raise InputError(f"a mask must be a list of starts and lengths in turn, 0 or more, not {str(runs)[:40]}")
    mask = torch.zeros(height * width, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    mask = mask.reshape(height, width)
    if with_border:
        mask[0] = mask[-1] = True
        mask[:, 0] = mask[:, -1] = True
    return mask


def _without_brackets(prompt: Any) -> Any:
    """The prompt without what marks the words that change; what is no text stays, and is refused elsewhere."""
    return prompt.translate(str.maketrans("", "", "[]")) if isinstance(prompt, str) else prompt
