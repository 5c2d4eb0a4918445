"""Writes what the module predicts, file by file, so that a killed run loses at most the batch in flight."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from rich.console import Console
from safetensors.torch import save

from renoise.contact_sheet import contact_sheet
from renoise.errors import InputError
from renoise.manifest import Manifest, claim_folder, open_folder, write_atomically, writing_to
from renoise.module import ReNoiseModule
from renoise.results import ImageResult
from renoise.summary import as_table, summarize

MOST_FAILURES = 10
"""Images named on the screen; the manifest names all."""
UNWRITABLE_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
"""What the file system says to a name that is too long, or that is both an image and a folder of images."""


class InversionWriter(BasePredictionWriter):
    """Keeps the output folder (`trainer.default_root_dir`): inversions, pictures, manifest, summary, contact sheet.

    Args:
        settings: everything that the results depend on, in JSON's types; a folder with the output of other settings
            is refused, one of the same settings is picked up where it was left.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__("batch")
        self.settings = settings
        self.summary: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Claims the folder and leaves out of the data what is already done."""
        assert isinstance(pl_module, ReNoiseModule)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.folder = Path(trainer.default_root_dir)
        self.manifest = Manifest(self.folder)
        if trainer.is_global_zero:
            open_folder(self.folder, self.settings, pl_module.overwrite)
            _keep_apart(self.folder, datamodule)
        # All that can be wrong with the command comes first: nothing is thrown away for one that cannot be carried out.
        pl_module.setup(stage)
        pl_module.check_size(datamodule.resolution, datamodule.resolution)
        datamodule.size_multiple = pl_module.denoiser.size_multiple
        if trainer.is_global_zero:
            claim_folder(self.folder, self.settings)
            self.manifest.repair()
            self._forget_changed(datamodule)
        trainer.strategy.barrier()
        datamodule.exclude({row["file_name"] for row in self.manifest.read()})
        trainer.strategy.barrier()  # nobody writes before everybody has read: all must leave out the same images

    def _forget_changed(self, datamodule: Any) -> None:
        """Drops the rows of images whose prompts have been changed since, so that they are done again."""
        prompts = {record.file_name: (record.prompt, record.edit_prompt) for record in datamodule.records}
        rows = self.manifest.read()
        kept = [
            row
            for row in rows
            if prompts.get(row["file_name"], (row["prompt"], row["edit_prompt"])) == (row["prompt"], row["edit_prompt"])
        ]
        if len(kept) < len(rows):
            self.manifest.replace(kept)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Sequence[ImageResult],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Writes every image's files, then the batch's lines of the manifest: a line means that its files are there."""
        with writing_to(self.folder):
            self.manifest.append([self._write(result) for result in prediction])

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Sums up the whole folder, earlier runs included."""
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ReNoiseModule)
        rows = self.manifest.read()
        self.summary = summarize(rows)
        sheet = contact_sheet(rows, self.folder, partial(_original, trainer), [*pl_module.editors])
        with writing_to(self.folder):
            write_atomically(self.folder / "summary.json", json.dumps(self.summary, indent=2).encode())
            write_atomically(self.folder / "contact_sheet.png", as_png(sheet))

    def report(self) -> None:
        """Prints the summary, the first failures and where the contact sheet lies."""
        Console().print(as_table(self.summary))
        failed = [row for row in self.manifest.read() if row["status"] == "failed"]
        for row in failed[:MOST_FAILURES]:
            print(f"failed: {row['file_name']}: {row['error']}")
        if len(failed) > MOST_FAILURES:
            print(f"failed: {len(failed) - MOST_FAILURES} more; {self.manifest.path} lists them all")
        print(f"contact sheet: {self.folder / 'contact_sheet.png'}")

    def _write(self, result: ImageResult) -> dict[str, Any]:
        """Writes the files of one image and returns its line of the manifest."""
        row, name = result.row, result.row["file_name"]
        if row["status"] != "ok":
            return row
        row["inversion"] = f"inversions/{name}.safetensors"
        files = {row["inversion"]: save(result.tensors, result.metadata)}
        assert result.reconstruction is not None
        files[f"reconstructions/{name}.png"] = as_png(as_image(result.reconstruction))
        for editor, image in result.edits.items():
            files[f"edits/{editor}/{name}.png"] = as_png(as_image(image))
        try:
            for path, content in files.items():
                write_atomically(self.folder / path, content)
        except OSError as error:
            if error.errno not in UNWRITABLE_NAMES:
                raise
            problem = f"no file can be written under this name: {error.strerror}"
            return row | {"status": "failed", "error": problem, "inversion": None}
        return row


def _original(trainer: L.Trainer, name: str) -> Image.Image | None:
    """The prepared original, or None where the image has gone since it was inverted."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    try:
        return as_image(datamodule.original(name))
    except (KeyError, InputError):
        return None


def _keep_apart(folder: Path, datamodule: Any) -> None:
    """Refuses to write among the images: the next run would take its pictures for images, too."""
    root = getattr(datamodule, "root", None)
    if root is not None and folder.resolve() == Path(root).resolve():
        raise InputError(f"trainer.default_root_dir: {folder} is data.root as well; choose another folder")


def as_image(pixels: torch.Tensor) -> Image.Image:
    """[3, H, W] in [0, 1] as an RGB picture of 8 bits."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def as_png(image: Image.Image) -> bytes:
    """The picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
