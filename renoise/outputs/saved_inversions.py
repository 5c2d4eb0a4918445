"""What a run left behind, as a data set: `renoise.load_inversions(folder)`."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch.utils.data import Dataset

from renoise.errors import InputError
from renoise.outputs.files import INVERSION, read_output
from renoise.outputs.manifest import Manifest


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
        manifest = Manifest(self.folder)
        if not manifest.files:
            raise InputError(f"{self.folder} holds no {manifest.path.name}; it must be the output folder of a run")
        self.rows = {row["file_name"]: row for row in manifest.read() if row["status"] == "ok"}
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
        content = self._read(name)
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise InputError(f"{self._place(name)} cannot be read: {error}") from error
        return {"file_name": name, "prompt": self.rows[name]["prompt"], **tensors}

    def metadata(self, image: int | str) -> dict[str, Any]:
        """All that it takes to run an inversion again: checkpoint, scheduler, steps, prompt, seed and so on."""
        name = self._name(image)
        content = self._read(name)
        try:  # the format's head: its length in eight bytes, then JSON, whose `__metadata__` are strings
            head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        except ValueError as error:
            raise InputError(f"{self._place(name)} cannot be read: {error}") from error
        return {field: json.loads(value) for field, value in head.get("__metadata__", {}).items()}

    def _name(self, image: int | str) -> str:
        if isinstance(image, int):
            name: str = self.names[image]
            return name
        if image not in self.rows:
            raise KeyError(f"{self.folder} holds no inversion of {image!r}")
        return image

    def _place(self, name: str) -> Path:
        return self.folder / str(self.rows[name]["inversion"])

    def _read(self, name: str) -> bytes:
        try:
            content = read_output(self.folder, self.rows[name], INVERSION)
        except OSError as error:
            raise InputError(f"{self._place(name)} cannot be read: {error}") from error
        if content is None:
            raise InputError(f"{self._place(name)} cannot be read: it does not exist")
        return content
