"""The command `renoise advise`: which settings of the inversion a person's own model and photographs need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console

from renoise.data import Encoded, ImageBatch
from renoise.errors import InputError
from renoise.evaluation.convergence.advice import Advice, advise_on_steps, find_advice
from renoise.evaluation.convergence.increments import ITERATIONS, RecordingSolver
from renoise.evaluation.convergence.measuring import MeasuringCLI, MeasuringModule, Row, failed_row
from renoise.evaluation.convergence.round_trips import Images, RoundTrips
from renoise.evaluation.convergence.wording import sentences, table_of_round_trips, table_of_steps
from renoise.inversion.renoise import ReNoise
from renoise.models.conditioning import Conditioning
from renoise.predict import predict
from renoise.utils.screen_text import on_screen

IMAGES = 4
"""Images that are measured where `data.limit` does not say."""


class AdviceModule(MeasuringModule):
    """Measures how renoising converges on each batch, and then tries settings on all of them."""

    wanted: float | None = None
    """The wanted PSNR in dB. None is a little below the autoencoder's own."""
    advice: Advice | None = None

    def measure(self, batch: ImageBatch, encoded: Encoded, conditioning: Conditioning) -> list[Row]:
        """Returns the curves of each image; see `StepRecord.row`. Keeps the images that could be inverted."""
        names = [record.file_name for record in batch.records]
        solver = RecordingSolver(self._loaded.schedules_for(encoded.latents)[0])
        method = ReNoise(ITERATIONS, solver=solver)
        inversion = self._loaded.invert_latents(encoded.latents, conditioning, names, inversion=method)
        self.images.append(Images(batch, encoded, conditioning))
        return [
            failed_row(name, inversion.failures[position])
            if position in inversion.failures
            else {"file_name": name, "error": None, "steps": [record.row(position) for record in solver.records]}
            for position, name in enumerate(names)
        ]

    def on_predict_start(self) -> None:
        """Starts without images."""
        self.images: list[Images] = []

    def on_predict_epoch_end(self) -> None:
        """Tries the settings, once all images are read."""
        if self.images:
            with self.trainer.precision_plugin.forward_context():  # as around `predict_step`
                self.advice = find_advice(RoundTrips(self._loaded, self.images), self.wanted)


class AdviceCollector(L.Callback):
    """Keeps the rows of all batches. It limits the number of images where the user does not."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.left_out = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leaves out all but the first images."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.limit is None:
            others = {record.file_name for record in data.records[IMAGES:]}
            self.left_out = len(others)
            data.exclude(others)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the rows of the batch."""
        self.rows += outputs


class AdviseCLI(MeasuringCLI):
    """Measures a few images and prints advice."""

    module_class = AdviceModule
    writer_class = AdviceCollector
    examples = ("renoise advise --preset sdxl_turbo --data.root photos/ --data.limit 4",)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the wanted PSNR."""
        super().add_arguments_to_parser(parser)
        text = "Wanted PSNR of reconstructions in dB. Null is 0.1 dB below the autoencoder's own round trip."
        parser.add_argument("--psnr", type=float | None, default=None, help=text)
        parser.description = "Tries settings on a few images, and says which ones the model needs."
        parser.usage = "renoise advise [--preset NAME] [--config FILE] [--psnr DB] [options]"

    def before_predict(self) -> None:
        """Hands the wanted PSNR to the module."""
        self.model.wanted = self.config["predict"]["psnr"]

    def after_predict(self) -> None:
        """Prints the advice.

        Raises:
            InputError: No image could be measured.
        """
        (collector,) = (each for each in self.trainer.callbacks if isinstance(each, AdviceCollector))  # type: ignore[attr-defined]
        for row in collector.rows:
            if row["error"] is not None:
                print(on_screen(f"failed: {row['file_name']}: {row['error']}"))
        good = [row for row in collector.rows if row["error"] is None]
        advice: Advice | None = self.model.advice
        if advice is None or not good:
            raise InputError("data.root: no image could be measured")
        self._print(advice, good, collector.left_out)

    def _print(self, advice: Advice, rows: Sequence[Row], left_out: int) -> None:
        console, schedule = Console(soft_wrap=True, highlight=False), self.model._loaded.inversion_schedule
        others = f" of {len(rows) + left_out}; --data.limit takes more" if left_out else ""
        console.print(f"{self.model.checkpoint}, {len(schedule)} steps, {len(rows)} images{others}\n", markup=False)
        steps = advise_on_steps(rows)
        for table in (table_of_steps(steps), table_of_round_trips(advice)):
            console.print(table)
            console.print()
        for sentence in sentences(advice, steps, self.model.wanted):
            console.print(sentence, markup=False)


def advise(arguments: Sequence[str]) -> None:
    """Runs `renoise advise`.

    Args:
        arguments: Options of `renoise predict`, and `--psnr`. Presets are replaced by their files.

    Raises:
        InputError: A mistake of the user.
    """
    predict(["predict", *arguments], AdviseCLI)
