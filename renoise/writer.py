"""Writes what the module predicts, file by file, so that a killed run loses at most the batch in flight."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Sequence
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
from renoise.manifest import Manifest, claim_folder, write_atomically
from renoise.module import ImageResult, ReNoiseModule
from renoise.summary import as_table, summarize


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
        self.folder = Path(trainer.default_root_dir)
        if trainer.is_global_zero:
            claim_folder(self.folder, self.settings, pl_module.overwrite)
            Manifest(self.folder).repair()
        trainer.strategy.barrier()
        self.manifest = Manifest(self.folder)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        datamodule.exclude({row["file_name"] for row in self.manifest.read()})

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
        self.manifest.append([self._write(result) for result in prediction])

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Sums up the whole folder, earlier runs included."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ReNoiseModule)
        rows = self.manifest.read()
        self.summary = summarize(rows)
        write_atomically(self.folder / "summary.json", json.dumps(self.summary, indent=2).encode())
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        sheet = contact_sheet(rows, self.folder, lambda name: as_image(datamodule.original(name)), [*pl_module.editors])
        write_atomically(self.folder / "contact_sheet.png", as_png(sheet))

    def report(self) -> None:
        """Prints the summary, the first failures and where the contact sheet lies."""
        console = Console()
        console.print(as_table(self.summary))
        for row in [row for row in self.manifest.read() if row["status"] == "failed"][:10]:
            console.print(f"failed: {row['file_name']}: {row['error']}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"contact sheet: {self.folder / 'contact_sheet.png'}", markup=False, soft_wrap=True)

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
            if error.errno != errno.ENAMETOOLONG:
                raise InputError(f"trainer.default_root_dir: {self.folder} cannot be written: {error}") from error
            return row | {"status": "failed", "error": f"the name is too long to write: {error}", "inversion": None}
        return row


def as_image(pixels: torch.Tensor) -> Image.Image:
    """[3, H, W] in [0, 1] as an RGB picture of 8 bits."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def as_png(image: Image.Image) -> bytes:
    """The picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
