"""The suite `convergence` of `renoise evaluate`: how fast renoising converges on a model and a set of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from renoise.core.rng import ImageRNG
from renoise.data import Encoded, ImageBatch
from renoise.evaluation.convergence.increments import ITERATIONS, RecordingSolver
from renoise.evaluation.convergence.measuring import MeasuringCLI, MeasuringModule, Row, failed_row
from renoise.evaluation.convergence.rows import RowsWriter
from renoise.evaluation.extra import require_extra
from renoise.inversion.renoise import ReNoise
from renoise.models.conditioning import Conditioning
from renoise.predict import predict
from renoise.utils.screen_text import on_screen


class ConvergenceModule(MeasuringModule):
    """Measures the increments of renoising and the norms of its Jacobians."""

    norms_problem: str | None = None
    """Why the norms cannot be measured, once that is known."""

    def measure(self, batch: ImageBatch, encoded: Encoded, conditioning: Conditioning) -> list[Row]:
        """Returns the curves of each image; see `StepRecord.row`."""
        pipeline, names = self._loaded, [record.file_name for record in batch.records]
        if not pipeline.model.differentiable:
            self.norms_problem = "weights that wait on the CPU (offload group) give no gradients"
        start = None
        if self.norms_problem is None:
            drawn = ImageRNG(pipeline.seed, names).normal("power iteration", encoded.latents.shape[1:])
            start = drawn.to(encoded.latents)
        solver = RecordingSolver(pipeline.schedules_for(encoded.latents)[0], start)
        method = ReNoise(ITERATIONS, solver=solver)
        inversion = pipeline.invert_latents(encoded.latents, conditioning, names, inversion=method)
        self.norms_problem = self.norms_problem or solver.problem
        return [
            failed_row(name, inversion.failures[position])
            if position in inversion.failures
            else {
                "file_name": name,
                "error": None,
                "norms_problem": self.norms_problem,
                "variance": encoded.latents[position].var().item(),
                "steps": [record.row(position) for record in solver.records],
            }
            for position, name in enumerate(names)
        ]


class ConvergenceWriter(RowsWriter):
    """Writes the rows of the suite."""

    suite = "convergence"


class ConvergenceCLI(MeasuringCLI):
    """Measures all images, and writes tables and figures at the end."""

    module_class = ConvergenceModule
    writer_class = ConvergenceWriter

    def after_predict(self) -> None:
        """Writes the tables and figures, and prints where they are and what is missing."""
        from renoise.evaluation.convergence.report import write_report

        (writer,) = (each for each in self.trainer.callbacks if isinstance(each, ConvergenceWriter))  # type: ignore[attr-defined]
        for line in write_report(writer.folder, writer.rows):
            print(on_screen(line))


def evaluate_convergence(arguments: Sequence[str], folder: Path) -> None:
    """Runs `renoise evaluate --suite convergence`. A suite that was stopped continues.

    Args:
        arguments: Options of `renoise predict`, as on the command line. Presets are replaced by their files.
        folder: Of the output. It takes the place of `trainer.default_root_dir`.

    Raises:
        InputError: A mistake of the user.
    """
    require_extra()
    predict(["predict", *arguments, "--trainer.default_root_dir", str(folder)], ConvergenceCLI)
