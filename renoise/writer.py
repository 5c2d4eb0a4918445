"""Writes what the module predicts, file by file, so that a killed run loses at most the batch in flight."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from rich.console import Console
from safetensors.torch import save

from renoise.data import ImageRecord
from renoise.errors import InputError
from renoise.module import ReNoiseModule
from renoise.outputs.contact_sheet import contact_sheet
from renoise.outputs.files import (
    INVERSION,
    RECONSTRUCTION,
    OutputFiles,
    SeparateFiles,
    Shards,
    repair_shards,
)
from renoise.outputs.image_result import ImageResult
from renoise.outputs.manifest import Manifest, claim_folder, in_order, open_folder, writing_to
from renoise.outputs.summary import as_table, summarize
from renoise.utils.distributed import all_gather, broadcast, check_starter, raise_together
from renoise.utils.jsonl import write_atomically

MOST_FAILURES = 10
"""Images named on the screen; the manifest names all."""


class InversionWriter(BasePredictionWriter):
    """Keeps the output folder (`trainer.default_root_dir`): inversions, pictures, manifest, summary, contact sheet.

    Each batch is written in a thread while the next is inverted, so that a run that is killed loses at most what it
    has in hand: the batch being inverted, and the one being written.

    Args:
        settings: everything that the results depend on, in JSON's types; a folder with the output of other settings
            is refused, one of the same settings is picked up where it was left.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__("batch")
        self.settings = settings
        self.summary: dict[str, Any] = {}
        self.failed: list[dict[str, Any]] = []
        """Rows of the images that failed, once the run has ended."""
        self._thread = ThreadPoolExecutor(1, "writer")
        self._written: Future[None] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Claims the folder and leaves out of the data what is already done.

        All that can be wrong with the command comes first: nothing is thrown away for one that cannot be carried out.
        """
        assert isinstance(pl_module, ReNoiseModule)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.folder = Path(trainer.default_root_dir)
        self.manifest = Manifest(self.folder, trainer.global_rank)
        with raise_together():
            if trainer.is_global_zero:
                open_folder(self.folder, self.settings, pl_module.overwrite)
                _keep_apart(self.folder, datamodule)
            pl_module.setup(stage)
            pl_module.check_size(datamodule.resolution, datamodule.resolution)
        datamodule.size_multiple = pl_module.model.size_multiple
        datamodule.prepare = pl_module.prepare
        with raise_together():
            done = self._take_over(datamodule, pl_module.retry_failed) if trainer.is_global_zero else None
        datamodule.exclude(broadcast(done))
        per_shard = pl_module.images_per_shard
        self.files: OutputFiles = (
            Shards(self.folder, trainer.global_rank, per_shard) if per_shard else SeparateFiles(self.folder)
        )

    def _take_over(self, datamodule: Any, retry_failed: bool) -> set[str]:
        """Makes the folder this run's; the names of the images that it leaves as they are."""
        claim_folder(self.folder, self.settings)
        texts = {record.file_name: record for record in datamodule.records}
        with writing_to(self.folder):
            self.manifest.repair()
            rows = self.manifest.read()
            kept = [
                row
                for row in rows
                if not _text_has_changed(row, texts.get(row["file_name"]))
                and not (retry_failed and row["status"] == "failed")
            ]
            if len(kept) < len(rows) or len(self.manifest.files) > 1:
                self.manifest.replace(kept)
            repair_shards(self.folder, kept)
        return {row["file_name"] for row in kept}

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
        """Has the batch written, once the one before it is.

        Raises:
            InputError: the batch before could not be written; or the process that started this one has ended.
            SystemExit: the machine is wanted back (SIGTERM); the batch has been written.
        """
        self._finish_writing()
        self._written = self._thread.submit(self._write, prediction)
        if trainer.received_sigterm:
            self._finish_writing()
            sys.exit(128 + signal.SIGTERM)
        check_starter()

    def _write(self, results: Sequence[ImageResult]) -> None:
        """Writes every image's files, then the batch's lines of the manifest: a line means that its files are there."""
        with writing_to(self.folder):
            self.manifest.append([self._put(result) for result in results])

    def _put(self, result: ImageResult) -> dict[str, Any]:
        """Writes the files of one image and returns its line of the manifest."""
        row = result.row
        if row["status"] != "ok":
            return row
        assert result.reconstruction is not None
        files = {INVERSION: save(result.tensors, result.metadata)}
        files[RECONSTRUCTION] = as_png(as_image(result.reconstruction))
        files |= {editor: as_png(as_image(image)) for editor, image in result.edits.items()}
        try:
            return row | self.files.add(row, files)
        except InputError as error:
            return row | {"status": "failed", "error": str(error), "inversion": None}

    def _finish_writing(self) -> None:
        if self._written is not None:
            self._written.result()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Lets what is being written come to its end; what goes wrong there is not what ended the run."""
        self._thread.shutdown()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Sums up the whole folder, earlier runs and other processes included, once all of them have finished."""
        assert isinstance(pl_module, ReNoiseModule)
        self._finish_writing()
        self._thread.shutdown()
        with writing_to(self.folder):
            self.files.close()
            all_gather(None)
            if not trainer.is_global_zero:
                return
            rows = in_order(self.manifest.read())
            self.manifest.replace(rows)
        self.summary = summarize(rows)
        self.failed = [row for row in rows if row["status"] == "failed"]
        sheet = contact_sheet(rows, self.folder, partial(_original, trainer), [*pl_module.editors])
        with writing_to(self.folder):
            write_atomically(self.folder / "summary.json", json.dumps(self.summary, indent=2).encode())
            write_atomically(self.folder / "contact_sheet.png", as_png(sheet))

    def report(self) -> None:
        """Prints the summary, the first failures and where the contact sheet lies."""
        Console().print(as_table(self.summary))
        for row in self.failed[:MOST_FAILURES]:
            print(f"failed: {row['file_name']}: {row['error']}")
        if len(self.failed) > MOST_FAILURES:
            print(f"failed: {len(self.failed) - MOST_FAILURES} more; {self.manifest.path} lists them all")
        print(f"contact sheet: {self.folder / 'contact_sheet.png'}")


def _text_has_changed(row: dict[str, Any], record: ImageRecord | None) -> bool:
    """Whether an image is now told other prompts than its row was made with; one without a caption is told none."""
    if record is None:
        return False
    prompt = row["prompt"] if record.prompt is None else record.prompt
    return (row["prompt"], row["edit_prompt"]) != (prompt, record.edit_prompt)


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
