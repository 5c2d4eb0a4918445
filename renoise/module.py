"""The LightningModule of a run: a batch of images in; inverted, reconstructed and edited images out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision

from renoise.api.pipeline import InversionPipeline
from renoise.api.requests import check_size, edit_requests, warn_of_long_prompts
from renoise.data import Encoded, ImageBatch, ImageRecord
from renoise.editing.base import Editor
from renoise.editing.region import check_region
from renoise.editing.runner import check_needs, name_editors, run_editor
from renoise.errors import prefixed
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.metrics import make_metrics
from renoise.models.base import DiffusionModel
from renoise.models.memory import MemoryOptions
from renoise.outputs.image_result import ImageResult, measure, not_finite
from renoise.utils.configurable import Configurable, describe
from renoise.utils.halves import in_halves
from renoise.utils.precision import WEIGHTS, check_half_precision, default_device_and_dtype


class ReNoiseModule(Configurable, L.LightningModule):
    """Inverts images, reconstructs them, and gives the inversions to editors.

    Args:
        checkpoint: A hub id, a local folder in diffusers layout, or a single .safetensors file.
        lora: LoRA weights to merge into the checkpoint: a hub id, a folder or a .safetensors file.
        textual_inversion: Textual inversions to load: a list of hub ids, folders or .safetensors files.
        vae: An autoencoder to use in place of the checkpoint's: a hub id or a local folder.
        scheduler: Class name of the diffusers scheduler, such as DDIMScheduler. Null takes the checkpoint's own.
        scheduler_options: Settings of the scheduler that differ from the checkpoint's, such as timestep_spacing.
        eta: DDIM's η in [0, 1], the share of DDPM's noise that every step draws.
        num_inference_steps: Number of steps of the sampler.
        num_inversion_steps: Number of steps of the inversion, for deterministic samplers. Null: `num_inference_steps`.
        guidance_scale: Guidance during inversion and reconstruction, 1 or more. 1 (or 0) is without: half the time.
        inversion: The inversion method: ReNoise, DDIM, Pix2PixZeroInversion, EditFriendlyInversion, NullTextInversion,
            DirectInversion, Noising, EDICT, BDIA, OBELM, UniInv, or one of another package. For flow matching also
            RFSolver, FireFlow and RFInversion.
        editors: Editing methods to apply to every inversion.
        keep_outside_mask: Whether edits keep the latents outside a mask. An image without a mask is then not edited.
        metrics: What to compute for every reconstruction: names, or mappings of a name to its options.
        seed: Seed of all random numbers. They depend on the seed and the image's name, not on the batch.
        **memory: Options of `MemoryOptions`, such as offload.

    Example:
        >>> import lightning, renoise, tempfile
        >>> module = renoise.ReNoiseModule("data/models/tiny-sd", num_inference_steps=1)
        >>> data = renoise.ImageFolderDataModule("data/images/scenes", resolution=64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = lightning.Trainer(
        ...         accelerator="cpu", logger=False, inference_mode=False, enable_progress_bar=False,
        ...         default_root_dir=folder, limit_predict_batches=1,
        ...     )
        ...     results = trainer.predict(module, data)[0]
        >>> results[0].row["status"]
        'ok'
    """

    def __init__(
        self,
        checkpoint: str,
        lora: str | None = None,
        textual_inversion: Sequence[str] = (),
        vae: str | None = None,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        num_inversion_steps: int | None = None,
        guidance_scale: float = 1.0,
        inversion: Inverter | None = None,
        editors: Sequence[Editor] = (),
        keep_outside_mask: bool = False,
        metrics: Sequence[str | dict[str, dict[str, Any]]] = ("psnr", "ssim", "psnr_vae", "latent_mse"),
        seed: int = 0,
        **memory: Any,
    ) -> None:
        super().__init__()
        self.load_arguments: dict[str, Any] = {
            "lora": lora,
            "textual_inversion": textual_inversion,
            "vae": vae,
            "scheduler": scheduler,
            "scheduler_options": scheduler_options,
            "eta": eta,
            "num_inference_steps": num_inference_steps,
            "num_inversion_steps": num_inversion_steps,
            "guidance_scale": guidance_scale,
            "inversion": inversion or ReNoise(),
            "seed": seed,
        }
        self.memory = MemoryOptions(**memory)  # the command line takes the options of `memory` from here
        self.checkpoint = checkpoint
        self.editors = name_editors(editors)
        self.keep_outside_mask = keep_outside_mask
        self.metrics = make_metrics(metrics)
        self.pipeline: InversionPipeline | None = None

    def configure_model(self) -> None:
        """Loads the model and checks everything that depends on it. Lightning may call this more than once."""
        if self.pipeline is not None:
            return
        from renoise.api.loading import load  # it imports diffusers, which takes seconds

        trainer = self._attached_trainer
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        if self.precision in ("16-true", "16-mixed"):
            check_half_precision(device)
        with default_device_and_dtype(), prefixed("model."):
            dtype = WEIGHTS.get(str(self.precision), torch.float32)
            pipeline = load(self.checkpoint, dtype=dtype, device=device, **self.load_arguments, **vars(self.memory))
        for editor in self.editors.values():
            with prefixed("model.editors: ", ValueError):
                check_needs(editor, pipeline.model, pipeline.schedule, pipeline.inversion, pipeline.num_inversion_steps)
        with prefixed("model.keep_outside_mask: ", ValueError):
            if self.keep_outside_mask:
                check_region(pipeline.inversion.sampler, pipeline.schedule, pipeline.num_inversion_steps)
        self.pipeline = pipeline
        if self.model.movable:
            self.networks = self.model  # a submodule, so that Lightning moves and casts it
        datamodule: Any = getattr(trainer, "datamodule", None)
        if hasattr(datamodule, "connect"):  # networks that wait on the CPU are called by one thread only
            prepare = self.prepare if self.model.movable else None
            datamodule.connect(size_multiple=self.model.size_multiple, prepare=prepare)

    @property
    def model(self) -> DiffusionModel:
        """The diffusion model, once it is loaded."""
        return self._loaded.model

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the results depend on beside the data, in JSON types. Needs the model to be loaded."""
        return {
            **self._loaded.settings,
            "editors": [describe(editor) for editor in self.editors.values()],
            "keep_outside_mask": self.keep_outside_mask,
            "metrics": describe(self.init_args["metrics"]),
        }

    @property
    def precision(self) -> str | None:
        """The Trainer's precision, or None without a Trainer."""
        trainer = self._attached_trainer
        return None if trainer is None else str(trainer.precision)

    def prepare(self, batch: ImageBatch) -> ImageBatch:
        """Moves a batch to the device, adds captions and encodes the images.

        The data module calls it in a thread of its own, while this module inverts the batch before. Gradients and
        autocast are settings of a thread, so they are set here again.
        """
        precision = self.trainer.precision_plugin
        with torch.no_grad(), precision.forward_context() if isinstance(precision, MixedPrecision) else nullcontext():
            moved: ImageBatch = self.trainer.strategy.batch_to_device(batch)
            if moved.records:
                with suppress(RuntimeError, MemoryError):  # `predict_step` tries it again, in smaller batches
                    moved.encoded = self._encode(moved.images)
            return moved

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> list[ImageResult]:
        """Inverts, reconstructs, measures and edits one batch. Images that fail have results of their own."""
        results = [ImageResult.failed(record, error, self.metrics) for record, error in batch.failures]
        if not batch.records:
            return results
        check_size(self.model, self.checkpoint, *batch.images.shape[-2:])
        warn_of_long_prompts(self.model, batch.records)

        def failed(position: int, problem: str) -> ImageResult:
            return ImageResult.failed(batch.records[position], problem, self.metrics)

        return results + in_halves(range(len(batch.records)), lambda index: self._process(batch.select(index)), failed)

    def _process(self, batch: ImageBatch) -> list[ImageResult]:
        """Returns the results of one batch of images. Raises anything that networks and other packages raise."""
        started = time.perf_counter()
        encoded = batch.encoded or self._encode(batch.images)
        inversion, rebuilt, reconstructions = self._invert(batch, encoded)
        results = [ImageResult.failed(batch.records[i], text, self.metrics) for i, text in inversion.failures.items()]
        good = [index for index in range(len(batch.records)) if index not in inversion.failures]
        if good:
            kept, inversion = batch.select(good), inversion.select(good)
            outputs = (inversion, rebuilt[good], reconstructions[good])
            settings = self.settings | {"precision": self.precision}
            measured = measure(kept, encoded.select(good), *outputs, self.metrics, settings)
            self._edit(measured, inversion, kept.records)
            for result in measured:
                result.row["seconds"] = (time.perf_counter() - started) / len(batch.records)
            results += measured
        return results

    def _invert(self, batch: ImageBatch, encoded: Encoded) -> tuple[Inversion, torch.Tensor, torch.Tensor]:
        """Returns the inversion of a batch, its z_0 [B, C, h, w] and its images [B, 3, H, W]."""
        pipeline = self._loaded
        prompts = [record.prompt or "" for record in batch.records]
        conditioning = self.model.encode_prompts(prompts, pipeline.guidance_scale, time_ids=batch.time_ids)
        names = [record.file_name for record in batch.records]
        needed = any("trajectory" in editor.needs for editor in self.editors.values())
        keep_trajectory = needed or self.keep_outside_mask
        inversion = pipeline.invert_latents(encoded.latents, conditioning, names, keep_trajectory)
        rebuilt = sample(self.model, inversion)
        reconstructions = self.model.decode_latents(rebuilt)
        for index in not_finite(rebuilt):
            inversion.failures.setdefault(index, "the latents turned NaN or infinite in the reconstruction")
        for index in not_finite(reconstructions):
            inversion.failures.setdefault(index, "the autoencoder decoded the latents to NaN or infinity")
        return inversion, rebuilt, reconstructions

    def _edit(self, results: list[ImageResult], inversion: Inversion, records: list[ImageRecord]) -> None:
        """Adds every editor's image, or the reason why there is none, to the results."""
        mask_of = getattr(getattr(self._attached_trainer, "datamodule", None), "mask", lambda name: None)
        requests, refused = edit_requests(records, mask_of if self.keep_outside_mask else None)
        for name, editor in self.editors.items():
            outcomes = run_editor(editor, self.model, inversion, requests, refused)
            for result, outcome in zip(results, outcomes, strict=True):
                if isinstance(outcome, str):
                    result.row["edits"][name] = outcome
                else:
                    result.row["edits"][name] = "ok"
                    result.edits[name] = outcome

    def _encode(self, images: torch.Tensor) -> Encoded:
        latents = self.model.encode_images(images)
        compared = any(metric.uses_decoded for metric in self.metrics.values())
        return Encoded(latents, self.model.decode_latents(latents) if compared else None)

    @property
    def _loaded(self) -> InversionPipeline:
        assert self.pipeline is not None, "configure_model loads the pipeline"
        return self.pipeline

    @property
    def _attached_trainer(self) -> L.Trainer | None:
        try:
            return self.trainer
        except RuntimeError:  # Lightning's answer where there is no Trainer
            return None
