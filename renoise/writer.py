"""Writes the results of a run file by file, so that a killed run loses two batches at most."""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter

from renoise.errors import InputError, InputWarning
from renoise.module import ReNoiseModule
from renoise.outputs.columns import warn_of_renamed
from renoise.outputs.completeness import is_complete
from renoise.outputs.contact_sheet import contact_sheet
from renoise.outputs.files import INVERSION, RECONSTRUCTION, OutputFiles, SeparateFiles, Shards, repair_shards
from renoise.outputs.image_files import IMAGE_FILE, Stamps, image_file, stamp
from renoise.outputs.image_result import ImageResult
from renoise.outputs.images import to_pil, to_png
from renoise.outputs.inversion_file import save_inversion
from renoise.outputs.loggers import log_rows, log_settings, log_summary
from renoise.outputs.manifest import CONTACT_SHEET, SETTINGS, SUMMARY, Manifest, claim_folder, in_order, open_folder
from renoise.outputs.overwriting import check_apart
from renoise.outputs.report import print_report
from renoise.outputs.resume import finished_rows
from renoise.outputs.summary import summarize
from renoise.outputs.thumbnails import Thumbnails
from renoise.utils.distributed import barrier, broadcast, check_parent, raise_together
from renoise.utils.files import write_atomically, writing_to
from renoise.utils.run_lock import lock_folder, unlock_folder


class InversionWriter(BasePredictionWriter):
    """Writes inversions, pictures, manifest, summary and contact sheet to `trainer.default_root_dir`.

    A thread writes each batch while the next one is inverted. A killed run loses at most the batch that is being
    inverted and the one that is being written.

    Args:
        overwrite: Whether to remove what a run with other settings left in the output folder.
        strict: Whether one failed image makes the exit status 1.
        retry_failed: Whether to try images again that failed in an earlier run.
        images_per_shard: Images for each WebDataset archive, where one file for each image is too many. Null writes
            separate files.

    Example:
        >>> import renoise
        >>> renoise.InversionWriter(overwrite=True).overwrite
        True
    """

    def __init__(
        self,
        overwrite: bool = False,
        strict: bool = False,
        retry_failed: bool = False,
        images_per_shard: int | None = None,
    ) -> None:
        super().__init__("batch")
        if images_per_shard is not None and images_per_shard < 1:
            raise InputError(f"images_per_shard must be 1 or more, or null, got {images_per_shard}")
        self.overwrite = overwrite
        self.strict = strict
        self.retry_failed = retry_failed
        self.images_per_shard = images_per_shard
        self.summary: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        """Rows of the manifest, once the run has ended."""
        self.missing: list[str] = []
        """Names of the images that have no row once the run has ended, because their row or a file was removed."""
        self._thread = ThreadPoolExecutor(1, "writer")
        self._written: Future[None] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Takes over the output folder, and leaves out of the data what is already done.

        Everything that can be wrong with the command is checked first. A command that cannot run removes nothing.
        """
        assert isinstance(pl_module, ReNoiseModule)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.metrics = pl_module.metrics
        self.folder = Path(trainer.default_root_dir)
        self.manifest = Manifest(self.folder, trainer.global_rank)
        with raise_together():
            if trainer.is_global_zero:
                check_apart(self.folder, *_inputs(datamodule))
                if self.folder.exists():
                    lock_folder(self.folder)
            pl_module.configure_model()  # Lightning calls it again after this hook, which changes nothing
        with raise_together():
            done: tuple[set[str], Stamps] = (set(), {})
            if trainer.is_global_zero:
                done = self._take_over(pl_module, datamodule)
        finished, self.stamps = broadcast(done)
        self.logged = len(finished)
        log_settings(trainer.loggers, pl_module.settings)
        datamodule.exclude(finished)
        warn_of_renamed(datamodule.records, self.metrics)
        self.thumbnails = Thumbnails(self.folder, [record.file_name for record in datamodule.records])
        self.files: OutputFiles = SeparateFiles(self.folder)
        if self.images_per_shard is not None:
            self.files = Shards(self.folder, trainer.global_rank, self.images_per_shard)

    def _take_over(self, module: ReNoiseModule, datamodule: Any) -> tuple[set[str], Stamps]:
        """Makes the folder this run's. Returns the names of the images that are finished, and the stamps of all."""
        model_settings = {name: value for name, value in module.settings.items() if name != "version"}
        self.settings = {
            "model": model_settings,
            "data": datamodule.settings,
            "trainer": {"precision": module.precision},
        }
        lock_folder(self.folder)
        open_folder(self.folder, self.settings, self.overwrite)
        claim_folder(self.folder, self.settings)
        records = {record.file_name: record for record in datamodule.records}
        stamps = {name: stamp(record) for name, record in records.items()}
        with writing_to(self.folder):
            self.manifest.repair()
            rows = self.manifest.read()
            kept = finished_rows(rows, records, stamps, self.folder, self.retry_failed)
            if kept != rows or len(self.manifest.files) > 1:
                self.manifest.replace(kept)
            repair_shards(self.folder, kept)
        return {row["file_name"] for row in kept}, stamps

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
        """Starts to write the batch, once the one before it is written.

        Raises:
            InputError: The batch before could not be written, or the process that started this one has ended.
            SystemExit: The process received SIGTERM. The batch has been written.
        """
        self._wait_until_written()
        self._written = self._thread.submit(self._write, prediction)
        log_rows(trainer.loggers, [result.row for result in prediction], self.logged)
        self.logged += len(prediction)
        if trainer.received_sigterm:
            self._wait_until_written()
            sys.exit(128 + signal.SIGTERM)
        check_parent()

    def _write(self, results: Sequence[ImageResult]) -> None:
        """Writes every image's files, then the batch's rows. A row in the manifest means that its files exist."""
        with writing_to(self.folder):
            self._restore()
            try:
                rows = [self._write_files(result) for result in results]
            except FileNotFoundError:  # the folder was removed in the meantime
                self._restore()
                rows = [self._write_files(result) for result in results]
            self.manifest.append(rows)

    def _restore(self) -> None:
        """Makes the folder this run's again if it was removed during the run."""
        if self.manifest.rank == 0 and lock_folder(self.folder) and not (self.folder / SETTINGS).exists():
            text = f"trainer.default_root_dir: {self.folder} was removed during the run; its finished images are lost"
            warnings.warn(text, InputWarning, stacklevel=2)
            claim_folder(self.folder, self.settings)

    def _write_files(self, result: ImageResult) -> dict[str, Any]:
        """Writes the files of one image and returns its row of the manifest."""
        row = result.row | {IMAGE_FILE: image_file(self.stamps.get(result.row["file_name"]), result.metadata)}
        if row["status"] != "ok":
            return row
        assert result.reconstruction is not None
        assert result.original is not None
        files = {INVERSION: save_inversion(result.tensors, result.metadata)}
        files[RECONSTRUCTION] = to_png(to_pil(result.reconstruction))
        files |= {editor: to_png(to_pil(image)) for editor, image in result.edits.items()}
        try:
            columns = self.files.add(row, files)
            self.thumbnails.save(row["file_name"], result.original)
            return row | columns
        except InputError as error:
            return row | {"status": "failed", "error": str(error), "inversion": None}

    def _wait_until_written(self) -> None:
        if self._written is not None:
            self._written.result()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Waits for the batch that is being written. An error there is not what ended the run."""
        self._thread.shutdown()
        unlock_folder(Path(trainer.default_root_dir))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Summarizes the whole folder, once all processes have finished."""
        assert isinstance(pl_module, ReNoiseModule)
        self._wait_until_written()
        self._thread.shutdown()
        with writing_to(self.folder):
            self.files.close()
            barrier()
            if not trainer.is_global_zero:
                return
            self._restore()
            rows = in_order([row for row in self.manifest.read() if is_complete(self.folder, row)])
            self.manifest.replace(rows)
        if trainer.limit_predict_batches == 1.0 and isinstance(trainer.limit_predict_batches, float):  # a whole run
            names = {row["file_name"] for row in rows}
            records = trainer.datamodule.records  # type: ignore[attr-defined]
            self.missing = [record.file_name for record in records if record.file_name not in names]
        self.summary = summarize(rows, self.metrics)
        self.rows = rows
        original = partial(self.thumbnails.read, original=trainer.datamodule.original)  # type: ignore[attr-defined]
        sheet = contact_sheet(rows, self.folder, original, [*pl_module.editors])
        with writing_to(self.folder):
            write_atomically(self.folder / SUMMARY, json.dumps(self.summary, indent=2).encode())
            write_atomically(self.folder / CONTACT_SHEET, to_png(sheet))
        log_summary(trainer.loggers, self.summary, sheet, self.logged)
        unlock_folder(self.folder)

    def report(self) -> None:
        """Prints what the run did, see `print_report`."""
        print_report(self.folder, self.summary, self.metrics, self.rows, self.missing)


def _inputs(datamodule: Any) -> tuple[Path | None, set[Path]]:
    """Returns the folder of the data set, and all folders with images."""
    root = getattr(datamodule, "root", None)
    sources = (record.source for record in datamodule.records if record.error is None)
    return root and Path(root), {source.parent for source in sources if isinstance(source, Path)}
