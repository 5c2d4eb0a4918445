"""Small pictures of the originals, kept for the contact sheet as the run goes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image
from torch import Tensor

from renoise.errors import InputError
from renoise.outputs.contact_sheet import MAX_ROWS, TILE, tile
from renoise.outputs.images import to_pil, to_png
from renoise.utils.files import write_atomically

THUMBNAILS = "thumbnails"
KEPT = 2 * MAX_ROWS
"""Images that have one: the first by name. The sheet shows the first `MAX_ROWS` of those that did not fail."""


class Thumbnails:
    """`thumbnails/<hash of the file name>.png`, so that the sheet need not decode 24 megapixels of each original again.

    Args:
        folder: The output folder.
        names: File names of all images of the data set.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from renoise.outputs.thumbnails import Thumbnails
        >>> thumbnails = Thumbnails(Path(tempfile.mkdtemp()), ["a.jpg"])
        >>> thumbnails.save("a.jpg", torch.zeros(3, 512, 512))
        >>> thumbnails.read("a.jpg", original=None).size
        (128, 128)
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder / THUMBNAILS
        self.kept = set(sorted(names)[:KEPT])

    def save(self, name: str, pixels: Tensor) -> None:
        """Writes the thumbnail of an image, or removes one of an earlier run where the image is not among the first.

        Args:
            name: The image's file name.
            pixels: The prepared original, [3, H, W] in [0, 1].

        Raises:
            OSError: The file system refuses.
        """
        if name in self.kept:
            picture = to_pil(pixels)
            write_atomically(self._path(name), to_png(picture if max(picture.size) <= TILE else tile(picture)))
        else:
            self._path(name).unlink(missing_ok=True)

    def read(self, name: str, original: Callable[[str], Tensor] | None) -> Image.Image | None:
        """Returns the thumbnail of an image, or the original where there is none.

        Args:
            name: The image's file name.
            original: Reads the prepared original, see `ImagesDataModule.original`.

        Returns:
            The picture, or None where the original no longer exists either.
        """
        try:
            with Image.open(self._path(name)) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError):  # there is none, or it is damaged
            return None if original is None else _from_original(name, original)

    def _path(self, name: str) -> Path:
        # A name can be longer than a file's may be, and it can be that of a folder, too.
        return self.folder / f"{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}.png"


def _from_original(name: str, original: Callable[[str], Tensor]) -> Image.Image | None:
    try:
        return to_pil(original(name))
    except (KeyError, InputError):  # the image no longer exists
        return None
