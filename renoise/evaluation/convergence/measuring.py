"""The module and the command line of what is measured in place of inversions, with the options of `predict`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser

from renoise.api.requests import check_size, warn_of_long_prompts
from renoise.data import Encoded, ImageBatch
from renoise.errors import InputError
from renoise.models.conditioning import Conditioning
from renoise.module import ReNoiseModule
from renoise.predict import ReNoiseCLI
from renoise.utils.halves import in_halves

Row = dict[str, Any]


class MeasuringModule(ReNoiseModule):
    """Measures images in place of inverting them. A subclass says what."""

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> list[Row]:  # type: ignore[override]
        """Returns a row for each image of the batch. An image that fails has one with its `error`."""
        rows = [failed_row(record.file_name, error) for record, error in batch.failures]
        if not batch.records:
            return rows
        check_size(self.model, self.checkpoint, *batch.images.shape[-2:])
        warn_of_long_prompts(self.model, batch.records)

        def failed(position: int, problem: str) -> Row:
            return failed_row(batch.records[position].file_name, problem)

        return rows + in_halves(range(len(batch.records)), lambda index: self._measure(batch.select(index)), failed)

    def _measure(self, batch: ImageBatch) -> list[Row]:
        encoded = batch.encoded or self._encode(batch.images)
        prompts = [record.prompt or "" for record in batch.records]
        conditioning = self.model.encode_prompts(prompts, self._loaded.guidance_scale, time_ids=batch.time_ids)
        return self.measure(batch, encoded, conditioning)

    @abstractmethod
    def measure(self, batch: ImageBatch, encoded: Encoded, conditioning: Conditioning) -> list[Row]:
        """Returns a row in JSON types for each image. Its `error` is null where the image was measured.

        Args:
            batch: Of B images, all of which could be read.
            encoded: The images as latents.
            conditioning: Of their prompts.
        """


class MeasuringCLI(ReNoiseCLI):
    """Runs a `MeasuringModule` on one device."""

    config_file = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the defaults: one device."""
        super().add_arguments_to_parser(parser)
        parser.set_defaults({"trainer.devices": 1})

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Makes the Trainer.

        Raises:
            InputError: It has more than one process.
        """
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1:
            raise InputError(f"trainer.devices must be 1 for measurements, got {trainer.world_size} processes")
        return trainer


def failed_row(file_name: str, error: str) -> Row:
    """Returns the row of an image that could not be measured."""
    return {"file_name": file_name, "error": error}
