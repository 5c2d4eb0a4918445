"""COCO's images and captions, from its own files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.batch import ImageRecord
from renoise.data.images_data_module import ImagesDataModule
from renoise.data.json_files import check_folder, read_json
from renoise.data.metadata import file_record, printable
from renoise.errors import InputError, InputWarning

MIN_SIDE = 420
"""Pixels that both sides exceed: 3,865 images of val2017, which the paper measures on."""


class CocoCaptionsDataModule(ImagesDataModule):
    """The large images of COCO, each with its first caption; columns `image_id` and `captions` (all five) pass through.

    Args:
        root: the folder that the next two are in.
        annotations: the file of captions.
        images: the folder of images.
        min_side: pixels that an image's width and height must both exceed, by what the annotations say.
        captions: whether images are inverted under COCO's captions; false leaves them to the captioner, as in the
            paper, or to the prompt.
        kwargs: what all data sets take.
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
            raise InputError(f"data.min_side must be 0 or more, but is {min_side}")
        self.annotations, self.images = annotations, images
        self.min_side, self.captions_of_coco = min_side, captions

    def find_records(self) -> list[ImageRecord]:
        """The images in the order of their names; only the annotations are read.

        Raises:
            InputError: the annotations cannot be read or are not COCO's, there is no folder of images, or no image is
                large enough.
        """
        path, folder = self.root / self.annotations, self.root / self.images
        content = read_json(path, "data.annotations")
        images = _usable(content, "images", _is_image, path)
        # COCO's files about images that nobody captioned have no such list.
        may_lack = not self.captions_of_coco and isinstance(content, dict) and "annotations" not in content
        captions = {} if may_lack else _captions(_usable(content, "annotations", _is_caption, path))
        check_folder(folder, "data.images")
        records: dict[str, ImageRecord] = {}
        for image in images:
            if not min(image["width"], image["height"]) > self.min_side:
                continue
            name, where = posixpath.normpath(image["file_name"]), printable(f"{path}, image {image['id']}")
            if name in records:
                again = f"{where} is skipped: {printable(name)} is in it already"
                rank_zero_warn(again, category=InputWarning)
            else:
                records[name] = self._record(folder, where, name, image["id"], captions.get(image["id"], []))
        if not records:
            raise InputError(f"data.min_side: {path} has no images whose sides both exceed {self.min_side} pixels")
        return [records[name] for name in sorted(records)]

    def _record(self, folder: Path, where: str, name: str, image_id: int | str, captions: list[str]) -> ImageRecord:
        first = captions[0] if captions and self.captions_of_coco else None
        row = {"text": first, "image_id": image_id, "captions": captions}
        return file_record(folder, name, where, row, self.prompt)


def _captions(annotations: list[Any]) -> dict[int | str, list[str]]:
    """The captions by image, those with the lowest numbers first, without white space around them."""
    found: dict[int | str, list[tuple[int, str]]] = {}
    for caption in annotations:
        found.setdefault(caption["image_id"], []).append((caption["id"], caption["caption"].strip()))
    return {image_id: [text for _, text in sorted(numbered)] for image_id, numbered in found.items()}


def _usable(content: Any, name: str, is_usable: Callable[[Any], bool], path: Path) -> list[Any]:
    """Those entries of one of the file's lists that can be used; how many cannot is said once, for there may be many.

    Raises:
        InputError: there is no such list, or none of its entries can be used.
    """
    entries = content.get(name) if isinstance(content, dict) else None
    usable = [entry for entry in entries if is_usable(entry)] if isinstance(entries, list) else []
    if not isinstance(entries, list) or (entries and not usable):
        raise InputError(
            f"data.annotations: {path} does not hold COCO's captions: images with id, file_name, width and height; "
            "annotations with id, image_id and caption"
        )
    if len(usable) < len(entries):
        first = next(position for position, entry in enumerate(entries) if not is_usable(entry))
        which = f"{len(entries) - len(usable)} of {len(entries)} {name} are left out, the first of them [{first}]"
        rank_zero_warn(f"{path}: {which}: not as COCO has them", category=InputWarning)
    return usable


def _is_image(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
        and entry["file_name"] != ""
        and all(isinstance(entry.get(side), int | float) for side in ("width", "height"))
    )


def _is_caption(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int)
        and isinstance(entry.get("image_id"), int | str)
        and isinstance(entry.get("caption"), str)
        and entry["caption"].strip() != ""
    )
