"""COCO's images and captions, from its own files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from renoise.datamodules.batch import ImageRecord
from renoise.datamodules.images_data_module import ImagesDataModule
from renoise.datamodules.json_files import read_json
from renoise.datamodules.metadata import file_record
from renoise.errors import InputError

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
            InputError: the annotations cannot be read or are not COCO's, or no image is large enough.
        """
        path, folder = self.root / self.annotations, self.root / self.images
        content = read_json(path, "data.annotations")
        try:
            captions: dict[Any, list[tuple[Any, str]]] = {}
            for caption in content["annotations"]:
                captions.setdefault(caption["image_id"], []).append((caption["id"], str(caption["caption"]).strip()))
            rows = {
                str(image["file_name"]): (image["id"], [text for _, text in sorted(captions.get(image["id"], []))])
                for image in content["images"]
                if min(image["width"], image["height"]) > self.min_side
            }
        except (KeyError, TypeError) as error:
            raise InputError(
                f"data.annotations: {path} does not hold COCO's captions: images with id, file_name, width and height; "
                f"annotations with id, image_id and caption ({type(error).__name__}: {error})"
            ) from error
        if not rows:
            raise InputError(f"data.min_side: {path} has no images whose sides both exceed {self.min_side} pixels")
        return [self._record(folder, path, name, *rows[name]) for name in sorted(rows)]

    def _record(self, folder: Path, path: Path, name: str, image_id: Any, captions: list[str]) -> ImageRecord:
        first = captions[0] if captions and self.captions_of_coco else None
        row = {"text": first, "image_id": image_id, "captions": captions}
        return file_record(folder, name, str(path), row, self.prompt)
