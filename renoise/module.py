"""The predict loop's step: a batch of images in; inverted, rebuilt and edited images out."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision

from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import Method, NoiseCorrection
from renoise.core.renoise import AveragingWeights, Renoising
from renoise.core.schedule import Schedule, prediction_type
from renoise.data import Encoded, ImageBatch, ImageRecord
from renoise.editing.base import Editor, EditRequest, check_needs, run_editor
from renoise.errors import InputError, InputWarning
from renoise.inversion.base import Inversion, sample
from renoise.inversion.methods import InversionMethod, make_inverter
from renoise.metrics import functional as metrics
from renoise.models.base import DiffusionModel
from renoise.models.loading import check_prediction_type, load_model
from renoise.models.schedulers import replace_scheduler
from renoise.outputs.image_result import ImageResult, measured, not_finite


class ReNoiseModule(L.LightningModule):
    """Inverts images by ReNoise, rebuilds them, and hands the inversions to editing methods.

    Args:
        checkpoint: a hub id, or a local folder in diffusers layout.
        lora: a hub id or a local folder of LoRA weights, with or without the .safetensors file in it, merged into the
            checkpoint.
        scheduler: class name of the diffusers sampler, such as DDIMScheduler; null takes the checkpoint's own.
        scheduler_options: settings of the sampler that shall differ from the checkpoint's, such as timestep_spacing.
        eta: DDIM's η in 0…1: the share of fresh noise at every step.
        num_inference_steps: steps of the sampler.
        renoise_iterations: K of the paper; K + 1 network calls per step. 0 is plain DDIM inversion.
        averaging_weights: weights of the estimates (Table 1 of the paper); null takes the last one.
        edit_losses: what keeps predictions editable (L_edit of the paper); null leaves them as they are.
        noise_correction: what becomes of a stochastic sampler's noise once its step is solved: none, override (the
            noise that makes the step exact) or optimize (part of the way there).
        noise_correction_strength: share of the error that each step of optimize takes away.
        noise_correction_steps: steps of optimize.
        inversion: renoise; ddim (the sampler's plain reversal); pix2pix_zero (the same, each prediction regularized by
            L_pair and L_KL); edit_friendly (independent noisy latents, and the noise between them solved for);
            null_text (plain reversal, and the unconditional embedding of every step optimized); direct (plain
            reversal, whose latents put the way back right). But for renoise they take no averaging_weights and
            edit_losses, and but for edit_friendly's steps without noise no renoise_iterations.
        guidance_scale: guidance during inversion and reconstruction; 1 is without, and cheapest. Inversion null_text
            has it on the way back only, and direct not at all.
        tolerance: an image stops renoising a step once it moves by less than this share of itself; null never does.
        editors: editing methods to apply to every inversion.
        seed: of everything random.
        strict: whether one failed image makes the exit status non-zero.
        overwrite: whether to throw away what a run with other settings left in the output folder.
        retry_failed: whether to try images again that failed in an earlier run.
        images_per_shard: where a file per image is too many: how many go into one WebDataset archive; null makes none.
    """

    def __init__(
        self,
        checkpoint: str,
        lora: str | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        renoise_iterations: int = 1,
        averaging_weights: AveragingWeights | None = None,
        edit_losses: EditRegularization | None = None,
        noise_correction: Method = "none",
        noise_correction_strength: float = 0.5,
        noise_correction_steps: int = 1,
        inversion: InversionMethod = "renoise",
        guidance_scale: float = 1.0,
        tolerance: float | None = None,
        editors: Sequence[Editor] = (),
        seed: int = 0,
        strict: bool = False,
        overwrite: bool = False,
        retry_failed: bool = False,
        images_per_shard: int | None = None,
    ) -> None:
        super().__init__()
        if images_per_shard is not None and images_per_shard < 1:
            raise InputError(f"model.images_per_shard must be 1 or more, or null, got {images_per_shard}")
        if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
            raise InputError(f"model.guidance_scale must be 0 or more, got {guidance_scale}")
        self.checkpoint, self.lora = checkpoint, lora
        self.scheduler, self.scheduler_options, self.eta = scheduler, scheduler_options, eta
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale
        self.renoising = Renoising(renoise_iterations, averaging_weights, tolerance)
        self.edit_losses, self.inversion = edit_losses, inversion
        self.noise_correction = NoiseCorrection(noise_correction, noise_correction_strength, noise_correction_steps)
        self.editors = _named(editors)
        self.seed, self.strict = seed, strict
        self.overwrite, self.retry_failed, self.images_per_shard = overwrite, retry_failed, images_per_shard

    def setup(self, stage: str) -> None:
        """Loads the model and reads its sampler, before any image is touched; only once, whoever calls first."""
        if hasattr(self, "model"):
            return
        self.model: DiffusionModel = load_model(self.checkpoint, self.lora)
        sampler = replace_scheduler(self.model.scheduler, self.scheduler, self.scheduler_options)
        schedule = Schedule.from_scheduler(sampler, self.num_inference_steps, self.eta)
        self.noise_correction.validate(schedule, type(sampler).__name__)
        check_prediction_type(self.model, prediction_type(sampler), self.checkpoint)
        self._check_half_precision()
        for editor in self.editors.values():
            check_needs(editor, self.model, schedule)
        self.inverter = make_inverter(
            self.inversion,
            self.model,
            schedule,
            self.renoising,
            self.edit_losses,
            self.noise_correction,
            self.seed,
            keep_trajectory=any("trajectory" in editor.needs for editor in self.editors.values()),
            guidance_scale=self.guidance_scale,
        )
        self.provenance = {
            "checkpoint": self.checkpoint,
            "lora": self.lora,
            "scheduler": {"class_name": type(sampler).__name__, **dict(sampler.config)},
            "eta": self.eta,
            "num_inference_steps": self.num_inference_steps,
            "renoise_iterations": self.renoising.iterations,
            "averaging_weights": self.renoising.averaging_weights and vars(self.renoising.averaging_weights),
            "edit_losses": self.edit_losses and vars(self.edit_losses),
            "inversion": self.inversion,
            "noise_correction": self.noise_correction.method,
            "noise_correction_strength": self.noise_correction.strength,
            "noise_correction_steps": self.noise_correction.steps,
            "precision": None if self._trainer is None else str(self.trainer.precision),
            "tolerance": self.renoising.tolerance,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            "version": version("renoise"),
        }

    def _check_half_precision(self) -> None:
        """Raises InputError where the device cannot compute in the float16 that the Trainer shall use."""
        if self._trainer is None or str(self.trainer.precision) not in ("16-true", "16-mixed"):
            return
        device = self.trainer.strategy.root_device
        try:
            pixel = torch.ones(1, 1, 1, 1, dtype=torch.float16, device=device)
            F.conv2d(pixel, pixel)
        except RuntimeError as error:
            raise InputError(
                f"trainer.precision: this {device.type} cannot run the model in float16 ({error}); it may be 32-true, "
                "bf16-true or bf16-mixed"
            ) from error

    def prepare(self, batch: ImageBatch) -> ImageBatch:
        """The batch on the device, with its captions and latents; for another thread, while this one inverts the last.

        That gradients are off and autocast is on holds for one thread, so another has to say so again; the type of
        "true" precisions holds for all.
        """
        precision = self.trainer.precision_plugin
        with torch.no_grad(), precision.forward_context() if isinstance(precision, MixedPrecision) else nullcontext():
            moved: ImageBatch = self.trainer.strategy.batch_to_device(batch)
            if moved.records:
                moved.encoded = self._encoded(moved.images)
            return moved

    def _encoded(self, images: torch.Tensor) -> Encoded:
        latents = self.model.encode_images(images)
        return Encoded(latents, metrics.psnr(self.model.decode_latents(latents), images))

    def predict_step(self, batch: ImageBatch, batch_index: int) -> list[ImageResult]:
        """Inverts, rebuilds, measures and edits one batch; images that cannot be are rows of their own."""
        results = [ImageResult.failed(record, error) for record, error in batch.failures]
        if not batch.records:
            return results
        started = time.perf_counter()
        self.check_size(*batch.images.shape[-2:])
        self._warn_of_long_prompts(batch.records)
        encoded = batch.encoded or self._encoded(batch.images)
        prompts = [record.prompt or "" for record in batch.records]
        conditioning = self.model.encode_prompts(prompts, self.guidance_scale, time_ids=batch.time_ids)
        inversion = self.inverter.invert(encoded.latents, conditioning, [record.file_name for record in batch.records])
        rebuilt = sample(self.model, inversion)
        reconstructions = self.model.decode_latents(rebuilt)
        for row in not_finite(rebuilt):
            inversion.failures.setdefault(row, "the latents turned NaN or infinite in the reconstruction")
        for row in not_finite(reconstructions):
            inversion.failures.setdefault(row, "the autoencoder turned the latents into NaN or infinity")
        good = [row for row in range(len(batch.records)) if row not in inversion.failures]
        results += [ImageResult.failed(batch.records[row], error) for row, error in inversion.failures.items()]
        if good:
            index = torch.tensor(good, device=rebuilt.device)
            kept, inversion = batch.select(good), inversion.select(good)
            done = measured(
                kept, encoded.select(index), inversion, rebuilt[index], reconstructions[index], self.provenance
            )
            self._edit(done, inversion, [_request(record) for record in kept.records])
            for result in done:
                result.row["seconds"] = (time.perf_counter() - started) / len(batch.records)
            results += done
        return results

    def _edit(self, results: list[ImageResult], inversion: Inversion, requests: list[EditRequest]) -> None:
        """Adds every editor's image, or the reason why it made none, to the results."""
        for name, editor in self.editors.items():
            outcomes = run_editor(editor, self.model, inversion, requests)
            for result, outcome in zip(results, outcomes, strict=True):
                if isinstance(outcome, str):
                    result.row["edits"][name] = outcome
                else:
                    result.row["edits"][name] = "ok"
                    result.edits[name] = outcome

    def check_size(self, height: int, width: int) -> None:
        """Raises InputError where the model cannot take images of so many pixels."""
        multiple = self.model.size_multiple
        if height % multiple or width % multiple:
            raise InputError(f"data.resolution must be a multiple of {multiple} for {self.checkpoint}, got {width}")

    def _warn_of_long_prompts(self, records: list[ImageRecord]) -> None:
        for record in records:
            for name, prompt in (("prompt", record.prompt or ""), ("edit_text", record.edit_prompt or "")):
                cut = self.model.split_prompt(prompt)[1]
                if cut:
                    warnings.warn(
                        f"{record.file_name}: the {name} is longer than the text encoder takes; cut off: {cut!r}",
                        InputWarning,
                        stacklevel=2,
                    )


def _named(editors: Sequence[Editor]) -> dict[str, Editor]:
    """Editors by the name of their output folder: the class's, numbered from the second of a class on."""
    named: dict[str, Editor] = {}
    for editor in editors:
        name = type(editor).__name__
        same = sum(type(other).__name__ == name for other in named.values())
        named[f"{name}-{same + 1}" if same else name] = editor
    return named


def _request(record: ImageRecord) -> EditRequest:
    return EditRequest(record.file_name, record.prompt or "", record.edit_prompt)
