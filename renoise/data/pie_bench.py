"""PIE-Bench: images to edit, with source prompts, target prompts and masks (arXiv 2310.01506)."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from renoise.data.files import UnreadableImageError, check_folder, read_json
from renoise.data.images import read_size
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.masks import fit_mask
from renoise.data.overlooked import warn_of_unlisted
from renoise.data.records import ImageRecord, file_record, first_of_each_name, printable
from renoise.errors import InputError, InputWarning

SIDE = 512
"""Side in pixels of PIE-Bench's images and masks."""
PROMPTS = {"original_prompt": "text", "editing_prompt": "edit_text"}


class PIEBenchDataModule(ImagesDataModule):
    """PIE-Bench's images, source prompts and target prompts. All other columns pass through; `id` is the entry's key.

    Args:
        root: The folder that contains the mapping file and the images.
        mapping_file: The JSON file that lists the images, relative to `root`.
        images: The folder of images, relative to `root`.
        kwargs: The arguments of `ImagesDataModule`.

    Raises:
        InputError: An argument is wrong. The message begins with its name.

    Example:
        >>> from renoise.data import PIEBenchDataModule
        >>> data = PIEBenchDataModule("PIE-Bench_v1", resize="stretch")
        >>> data.mapping_file
        'mapping_file.json'
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
        """Returns the images in the mapping file's order. Prompts lose the brackets around what the edit changes.

        Raises:
            InputError: The mapping file cannot be read, is not PIE-Bench's or lists no image; or there is no folder of
                images.
        """
        path = self.root / self.mapping_file
        content = read_json(path, "data.mapping_file")
        if not isinstance(content, dict) or not content:
            raise InputError(f"data.mapping_file: {path} must be an object with one entry per image, and has none")
        check_folder(self.root / self.images, "data.images")
        entries = {key: entry for key, entry in content.items() if _is_entry(entry)}
        broken = [key for key in content if key not in entries]
        problems = [printable(f'{path}, {key} is not an object with an "image_path"') for key in broken]
        if not entries:
            raise InputError(f"data.mapping_file: {problems[0]}")
        for problem in problems:
            rank_zero_warn(f"{problem}; it is skipped", category=InputWarning)
        warn_of_unlisted(self.root / self.images, [posixpath.normpath(e["image_path"]) for e in entries.values()], path)
        return first_of_each_name(self._record(key, entry, path) for key, entry in entries.items())

    def _record(self, key: str, entry: dict[str, Any], path: Path) -> tuple[str, ImageRecord]:
        """Returns the place of an entry, for messages, and its record."""
        row = {**entry, "id": key}
        name = posixpath.normpath(row.pop("image_path"))
        for column, renamed in PROMPTS.items():
            row[renamed] = _without_brackets(row.pop(column, None))
        place = printable(f"{path}, {key}")
        return place, file_record(self.root / self.images, name, place, row)

    def mask(self, file_name: str, with_border: bool = True) -> Tensor:
        """Returns where an image may be edited, bool [H, W] at its target size. White margins are not edited.

        Args:
            file_name: Name of the image.
            with_border: Whether the outermost pixels are set, see `decode_mask`.

        Raises:
            KeyError: There is no such image.
            UnreadableImageError: The image cannot be read.
            InputError: The image's mask is not in PIE-Bench's format.
        """
        record = self._by_name[file_name]
        image_size = read_size(record.source) if record.error is None else None
        if image_size is None:
            raise UnreadableImageError(f"{file_name}: {record.error or 'not an image that can be read'}")
        try:
            mask = decode_mask(record.extra.get("mask"), *image_size, with_border)
        except InputError as error:
            raise InputError(f"data.mapping_file: {file_name}: {error}") from None
        return fit_mask(mask, self._target_size(record), self._fit)


def decode_mask(runs: Any, height: int = SIDE, width: int = SIDE, with_border: bool = True) -> Tensor:
    """Returns a mask of PIE-Bench as bool [height, width].

    Args:
        runs: Start and length of each run of ones, in turn, in the flattened image. Runs are cut off at its end.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        with_border: Whether the outermost rows and columns are set, as in PIE-Bench's own evaluation.

    Raises:
        InputError: `runs` is not such a list.
    """
    if not isinstance(runs, Sequence) or len(runs) % 2 or not all(type(each) is int and each >= 0 for each in runs):
        raise InputError(f"a mask must be a list of starts and lengths in turn, 0 or more, got {str(runs)[:40]}")
    mask = torch.zeros(height * width, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    mask = mask.reshape(height, width)
    if with_border:
        mask[0] = mask[-1] = True
        mask[:, 0] = mask[:, -1] = True
    return mask


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("image_path"), str) and entry["image_path"] != ""


def _without_brackets(prompt: Any) -> Any:
    """Returns a prompt without brackets. What is not a string stays, and its record has an error."""
    return prompt.translate(str.maketrans("", "", "[]")) if isinstance(prompt, str) else prompt
