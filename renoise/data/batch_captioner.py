"""Captions the images of a run that have no prompt."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from renoise.data.batch import ImageBatch
from renoise.data.captioner import Captioner, CaptionerConfig
from renoise.data.captions import Captions
from renoise.data.records import ImageRecord
from renoise.errors import InputWarning
from renoise.utils.distributed import barrier, broadcast, raise_together
from renoise.utils.run_lock import lock_folder


class BatchCaptioner:
    """Captions images whose prompt is None, a batch at a time, and keeps every caption in `captions.jsonl`.

    The captioner is loaded only where a caption is missing, and freed after the last image of this process.

    Args:
        config: The captioner.
        folder: The run's output folder.
        rank: Rank of this process.
    """

    def __init__(self, config: CaptionerConfig, folder: Path, rank: int = 0) -> None:
        self.config = config
        self.rank = rank
        self.captions = Captions(folder, rank)
        self.captioner: Captioner | None = None
        self._pending: set[str] = set()

    def add_known_captions(self, records: list[ImageRecord]) -> list[ImageRecord]:
        """Returns the records with the captions of earlier runs. Loads the captioner where some are missing.

        Every process must call it.

        Raises:
            InputError: `captions.jsonl` cannot be used, or the captioner cannot be loaded.
        """
        known: dict[str, str] = {}
        with raise_together():
            if self.rank == 0:
                if self.captions.path.parent.exists():
                    lock_folder(self.captions.path.parent)  # `gather` removes files that another run may append to
                self.captions.gather()
                known = self.captions.read()
        known = broadcast(known)
        captioned = [
            replace(record, prompt=known.get(record.file_name)) if record.prompt is None else record
            for record in records
        ]
        with raise_together():
            if any(record.prompt is None and record.error is None for record in captioned):
                self.captioner = Captioner(self.config)
        return captioned

    @property
    def must_wait(self) -> bool:
        """Whether the GPU's memory is too small to caption images during an inversion."""
        return self.captioner is not None and self.captioner.is_offloaded

    def expect(self, records: Iterable[ImageRecord]) -> None:
        """Notes the images that this process will caption."""
        self._pending = {record.file_name for record in records if record.prompt is None}

    def caption(self, batch: ImageBatch) -> None:
        """Captions the images of a batch that have no prompt, all at once, on the device of the batch."""
        if self.captioner is None:
            return
        positions = [position for position, record in enumerate(batch.records) if record.prompt is None]
        if positions:
            self._caption(batch, positions, self.captioner)
        self._pending -= {record.file_name for record in batch.records}
        self._pending -= {record.file_name for record, _ in batch.failures}
        if not self._pending:
            self.captioner = None

    def _caption(self, batch: ImageBatch, positions: list[int], captioner: Captioner) -> None:
        captions = dict(zip(positions, captioner(batch.images[positions]), strict=True))
        self.captions.append(
            {"file_name": batch.records[position].file_name, "text": caption} for position, caption in captions.items()
        )
        for position, caption in captions.items():
            record = batch.records[position]
            batch.records[position] = replace(record, prompt=caption)
            if not caption:
                message = f"{record.file_name}: the captioner returned no text; the prompt is empty"
                warnings.warn(message, InputWarning, stacklevel=2)

    def close(self) -> None:
        """Merges the captions of all processes into one file. Every process must call it."""
        barrier()
        if self.rank == 0:
            self.captions.gather()
