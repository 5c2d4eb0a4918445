"""What a run left behind, as a data set: `renoise.load_inversions(folder)`."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from renoise.errors import InputError
from renoise.manifest import MANIFEST, Manifest


class SavedInversions(Dataset[dict[str, Any]]):
    """The inversions of an output folder in the manifest's order, each read when it is asked for, by position or name.

    An item holds `file_name`, `prompt`, `latent` (z_T, [C, h, w]) and whatever else of `noise`, `trajectory` and
    `null_embeddings` the run kept; torch's `DataLoader` makes batches of them as they are.

    Args:
        folder: what was `trainer.default_root_dir`.

    Raises:
        InputError: there is no manifest in the folder; on access, a file is gone or damaged.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        if not (self.folder / MANIFEST).is_file():
            raise InputError(f"{self.folder} holds no {MANIFEST}; it must be the output folder of a run")
        self.rows = {row["file_name"]: row for row in Manifest(self.folder).read() if row["status"] == "ok"}
        """Lines of the manifest by name, of the images that were inverted."""
        self.names = list(self.rows)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, image: int | str) -> dict[str, Any]:
        """One inversion.

        Args:
            image: its position, or its `file_name`.

        Raises:
            IndexError, KeyError: there is no such image, or its inversion failed.
        """
        name = self._name(image)
        with self._open(name) as file:
            tensors = {tensor: file.get_tensor(tensor) for tensor in file.keys()}  # noqa: SIM118 (it has no iterator)
        return {"file_name": name, "prompt": self.rows[name]["prompt"], **tensors}

    def metadata(self, image: int | str) -> dict[str, Any]:
        """All that it takes to run an inversion again: checkpoint, scheduler, steps, prompt, seed and so on."""
        with self._open(self._name(image)) as file:
            return {name: json.loads(value) for name, value in (file.metadata() or {}).items()}

    def _name(self, image: int | str) -> str:
        if isinstance(image, int):
            name: str = self.names[image]
            return name
        if image not in self.rows:
            raise KeyError(f"{self.folder} holds no inversion of {image!r}")
        return image

    def _open(self, name: str) -> Any:
        path = self.folder / self.rows[name]["inversion"]
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
