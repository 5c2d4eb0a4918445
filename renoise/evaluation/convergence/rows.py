"""The folder of a suite that measures images one by one: a row for each, so that a stopped suite continues."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from renoise.data import ImageRecord
from renoise.errors import InputError
from renoise.evaluation.convergence.measuring import MeasuringModule
from renoise.outputs.image_files import IMAGE_FILE, image_file, stamp, up_to_date
from renoise.outputs.manifest import MANIFEST, differences
from renoise.utils.files import write_atomically, writing_to
from renoise.utils.jsonl import JsonLines, as_lines
from renoise.utils.run_lock import lock_folder, unlock_folder

CONTENT = "evaluation.json"
"""The file that says which suite a folder belongs to, and with which settings."""
ROWS = "measurements.jsonl"
SAMPLER = ("checkpoint", "lora", "vae", "textual_inversion", "scheduler", "eta", "num_inversion_steps")
MODEL = (*SAMPLER, "guidance_scale", "seed", "dtype", "vae_tiling", "layerwise_casting")
"""The settings of the model that a measurement depends on. It has an inversion method of its own."""


class RowsWriter(L.Callback):
    """Writes the rows of each batch at once, and leaves images out of the data that have one.

    Args:
        overwrite: Whether to remove the measurements of other settings from the output folder.
    """

    suite = ""
    """Name of the suite. A subclass has one."""

    def __init__(self, overwrite: bool = False) -> None:
        self.overwrite = overwrite
        self.rows: list[dict[str, Any]] = []
        """Rows of all images of the data set, in its order, once the run has ended."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Takes over the output folder, once everything is checked that can be wrong with the command."""
        assert isinstance(pl_module, MeasuringModule)
        self.folder = Path(trainer.default_root_dir)
        self.file = JsonLines(self.folder / ROWS)
        self.data: Any = trainer.datamodule  # type: ignore[attr-defined]
        pl_module.configure_model()  # Lightning calls it again after this hook, which changes nothing
        settings = {
            "suite": self.suite,
            "model": {name: value for name, value in pl_module.settings.items() if name in MODEL},
            "data": self.data.settings,
            "trainer": {"precision": pl_module.precision},
        }
        lock_folder(self.folder)
        self._claim(settings)
        self.stamps = {record.file_name: stamp(record) for record in self.data.records}
        with writing_to(self.folder):
            self.file.repair()
            found = self._read()
            kept = list(filter(None, (self._up_to_date(record, found) for record in self.data.records)))
            others = [row for name, row in found.items() if name not in self.stamps]
            self.file.merge(as_lines([*others, *kept]))
        self.data.exclude({row["file_name"] for row in kept})

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Appends the batch's rows, all of them or none, so that the batches of a continued run are the same."""
        hashes = dict(zip((record.file_name for record in batch.records), batch.sha256, strict=True))
        for row in outputs:
            name = row["file_name"]
            row[IMAGE_FILE] = image_file(self.stamps.get(name), {"image_sha256": hashes.get(name)})
        with writing_to(self.folder):
            self.file.append(outputs)
        if trainer.received_sigterm:
            sys.exit(128 + signal.SIGTERM)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Lets go of the folder."""
        unlock_folder(Path(trainer.default_root_dir))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Reads all rows, once the run has ended."""
        found = self._read()
        self.rows = [found[record.file_name] for record in self.data.records if record.file_name in found]
        unlock_folder(self.folder)

    def _claim(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder this suite's.

        Raises:
            InputError: It holds something else.
        """
        path, option = self.folder / CONTENT, "trainer.default_root_dir"
        if path.exists() or (self.folder / MANIFEST).exists():
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                before = None
            if not isinstance(before, dict) or before.get("suite") != self.suite:
                other = f"the suite {before.get('suite')!r}" if isinstance(before, dict) else "another command"
                text = f"{option}: {self.folder} holds the output of {other}; choose another folder for {self.suite!r}"
                raise InputError(text)
            changes = list(differences(before, dict(settings))) if self.file.files else []
            if changes and not self.overwrite:
                raise InputError(
                    f"{option}: {self.folder} holds measurements with other settings ({'; '.join(changes)}); choose "
                    "another folder, or replace them with --writer.overwrite true"
                )
            if changes:
                self.file.merge(b"")
        with writing_to(self.folder):
            write_atomically(path, json.dumps(settings, indent=2, ensure_ascii=False).encode(errors="backslashreplace"))

    def _read(self) -> dict[str, dict[str, Any]]:
        """Returns the rows by name. The last one of a name counts.

        Raises:
            InputError: A line is not JSON.
        """
        rows = {}
        for path, number, line in self.file.lines():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number} is not JSON ({error}); remove the line") from error
            rows[row["file_name"]] = row
        return rows

    def _up_to_date(self, record: ImageRecord, found: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
        """Returns the row of an image whose file has the same content as then. None where there is none."""
        row = found.get(record.file_name)
        return None if row is None else up_to_date(row, record, self.stamps[record.file_name])


def measured(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows of the images that were measured."""
    return [row for row in rows if row["error"] is None]
