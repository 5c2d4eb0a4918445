"""The output folder of a run as a data set: `renoise.load_inversions(folder)`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from renoise.errors import InputError
from renoise.outputs.files import INVERSION, read_output
from renoise.outputs.inversion_file import read_inversion
from renoise.outputs.manifest import Manifest


def load_inversions(folder: str | PathLike[str]) -> SavedInversions:
    """Returns the inversions in the output folder of a run, as a map-style data set.

    Args:
        folder: `trainer.default_root_dir` of the run.

    Raises:
        InputError: The folder has no manifest.

    Example:
        >>> import renoise
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from renoise.outputs.manifest import Manifest
        >>> with TemporaryDirectory() as folder:  # what a run would leave there
        ...     Manifest(Path(folder)).append([{"file_name": "a.png", "status": "ok"}])
        ...     renoise.load_inversions(folder).names
        ['a.png']
    """
    return SavedInversions(folder)


class SavedInversions(Dataset[dict[str, Any]]):
    """The inversions of an output folder, in the manifest's order. Each is read when it is asked for.

    An item has `file_name`, `prompt`, `latent` (z_T, [C, h, w]) and, where the run kept them, `noise`, `trajectory`,
    `null_embeddings` and `companion`; see `inversion_tensors`. A `torch.utils.data.DataLoader` makes batches of them.

    Args:
        folder: `trainer.default_root_dir` of the run.

    Raises:
        InputError: The folder has no manifest. On access: a file is missing or damaged.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from renoise.outputs.inversion_file import save_inversion
        >>> from renoise.outputs.manifest import Manifest
        >>> from renoise import SavedInversions
        >>> with TemporaryDirectory() as folder:  # what a run would leave there
        ...     row = {"file_name": "a.png", "status": "ok", "prompt": "a cat", "inversion": "a.safetensors"}
        ...     Manifest(Path(folder)).append([row])
        ...     content = save_inversion({"latent": torch.zeros(4, 8, 8)}, {"model": {"seed": 0}})
        ...     written = Path(folder, "a.safetensors").write_bytes(content)
        ...     inversions = SavedInversions(folder)
        ...     inversions[0]["prompt"], inversions["a.png"]["latent"].shape, inversions.metadata(0)["model"]
        ('a cat', torch.Size([4, 8, 8]), {'seed': 0})
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        manifest = Manifest(self.folder)
        if not manifest.files:
            raise InputError(f"{self.folder} has no {manifest.path.name}; give the output folder of a run")
        self.rows = {row["file_name"]: row for row in manifest.read() if row["status"] == "ok"}
        """Rows of the manifest by name, of the images that were inverted."""
        self.names = list(self.rows)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, image: int | str) -> dict[str, Any]:
        """Returns one inversion.

        Args:
            image: Its position, or its `file_name`.

        Raises:
            IndexError, KeyError: There is no such image, or its inversion failed.
            InputError: The file is missing or damaged.
        """
        name = self._name(image)
        tensors, _ = self._read(name)
        return {"file_name": name, "prompt": self.rows[name]["prompt"], **tensors}

    def metadata(self, image: int | str) -> dict[str, Any]:
        """Returns everything that it takes to run an inversion again; see `inversion_metadata`.

        Args:
            image: Its position, or its `file_name`.

        Raises:
            IndexError, KeyError: There is no such image, or its inversion failed.
            InputError: The file is missing or damaged.
        """
        _, metadata = self._read(self._name(image))
        return metadata

    def _name(self, image: int | str) -> str:
        if isinstance(image, int):
            name: str = self.names[image]
            return name
        if image not in self.rows:
            raise KeyError(f"{self.folder} has no inversion of {image!r}")
        return image

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        row = self.rows[name]
        path = self.folder / str(row["inversion"])
        try:
            content = read_output(self.folder, row, INVERSION)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        if content is None:
            raise InputError(f"{path} cannot be read: it does not exist")
        try:
            return read_inversion(content)
        except InputError as error:
            raise InputError(f"{path} {error}") from error
