"""COCO's images and captions, from its own files."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.files import check_folder, read_json
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.overlooked import warn_of_unlisted
from renoise.data.records import ImageRecord, file_record, first_of_each_name, printable, warn_of_names
from renoise.errors import InputError, InputWarning

MIN_SIDE = 420
"""Pixels that both sides exceed. It selects 3,865 images of val2017, which the paper measures on."""


class CocoCaptionsDataModule(ImagesDataModule):
    """The large images of COCO, each with its first caption.

    The columns `image_id` and `captions` (all five) pass through to the manifest.

    Args:
        root: The folder that contains the annotations and the images.
        annotations: The captions file, relative to `root`.
        images: The folder of images, relative to `root`.
        min_side: Width and height of an image must both exceed this many pixels, according to the annotations.
        captions: Whether COCO's captions are the prompts. false leaves the images to the captioner, as in the paper, or
            to `prompt`.
        kwargs: The arguments of `ImagesDataModule`.

    Raises:
        InputError: An argument is wrong. The message begins with its name.

    Example:
        >>> from renoise.data import CocoCaptionsDataModule
        >>> data = CocoCaptionsDataModule("coco", images="val2017")
        >>> data.min_side
        420
    """

    def __init__(
        self,
        root: str | PathLike[str],
        annotations: str = "annotations/captions_val2017.json",
        images: str = "val2017",
        min_side: int = MIN_SIDE,
        captions: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        if min_side < 0:
            raise InputError(f"min_side must be 0 or more, got {min_side}")
        self.annotations, self.images = annotations, images
        self.min_side, self.use_captions = min_side, captions

    def find_records(self) -> list[ImageRecord]:
        """Returns the images, sorted by name. Only the annotations are read.

        Raises:
            InputError: The annotations cannot be read or are not COCO's, there is no folder of images, or no image is
                large enough.
        """
        path, folder = self.root / self.annotations, self.root / self.images
        content = read_json(path, "data.annotations")
        images = _usable(content, "images", _is_image, path)
        # COCO's files about images without captions have no such list.
        has_no_captions = isinstance(content, dict) and "annotations" not in content
        if has_no_captions and not self.use_captions:
            captions = {}
        else:
            captions = _captions_by_image(_usable(content, "annotations", _is_caption, path))
        check_folder(folder, "data.images")
        large = [image for image in images if min(image["width"], image["height"]) > self.min_side]
        if not large:
            raise InputError(f"data.min_side: {path} has no images whose sides both exceed {self.min_side} pixels")
        ids = {image["id"] for image in images}
        unknown = [str(image_id) for image_id in captions if image_id not in ids]
        warn_of_names(path, "captions are left out because their images are not listed; their image_id", unknown)
        names = [posixpath.normpath(image["file_name"]) for image in images]
        warn_of_unlisted(folder, names, path)
        records = first_of_each_name(self._record(image, captions.get(image["id"], []), path) for image in large)
        return sorted(records, key=lambda record: record.file_name)

    def _record(self, image: dict[str, Any], captions: list[str], path: Path) -> tuple[str, ImageRecord]:
        """Returns the place of an entry, for messages, and its record."""
        place = printable(f"{path}, image {image['id']}")
        first = captions[0] if captions and self.use_captions else None
        row = {"text": first, "image_id": image["id"], "captions": captions}
        return place, file_record(self.root / self.images, posixpath.normpath(image["file_name"]), place, row)


def _captions_by_image(annotations: list[Any]) -> dict[int | str, list[str]]:
    """Returns the captions of each image, without white space around them, sorted by their ids."""
    found: dict[int | str, list[tuple[int, str]]] = {}
    for caption in annotations:
        found.setdefault(caption["image_id"], []).append((caption["id"], caption["caption"].strip()))
    return {image_id: [text for _, text in sorted(captions)] for image_id, captions in found.items()}


def _usable(content: Any, name: str, is_usable: Callable[[Any], bool], path: Path) -> list[Any]:
    """Returns the usable entries of one of the file's lists. One warning counts the others, which may be many.

    Raises:
        InputError: There is no such list, or none of its entries is usable.
    """
    entries = content.get(name) if isinstance(content, dict) else None
    usable = [entry for entry in entries if is_usable(entry)] if isinstance(entries, list) else []
    if not isinstance(entries, list) or (entries and not usable):
        raise InputError(
            f"data.annotations: {path} does not contain COCO's captions: images with id, file_name, width and height; "
            "annotations with id, image_id and caption"
        )
    if len(usable) < len(entries):
        first = next(position for position, entry in enumerate(entries) if not is_usable(entry))
        which = f"{len(entries) - len(usable)} of {len(entries)} {name} are skipped, the first of them [{first}]"
        rank_zero_warn(f"{path}: {which}: not in COCO's format", category=InputWarning)
    return usable


def _is_image(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
        and entry["file_name"] != ""
        and all(
            isinstance(entry.get(side), int | float) and not math.isnan(entry[side]) for side in ("width", "height")
        )
    )


def _is_caption(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int)
        and isinstance(entry.get("image_id"), int | str)
        and isinstance(entry.get("caption"), str)
        and entry["caption"].strip() != ""
    )
