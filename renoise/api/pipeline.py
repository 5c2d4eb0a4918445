"""A diffusion model with its sampler and an inversion method: inverts images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from renoise.api.image_inputs import ImageInput, PreparedImages, one_for_each, prepare_images
from renoise.api.inverted_images import InvertedImages
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.errors import InputError, prefixed
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.other_steps import check_deterministic, check_same_steps, start_in
from renoise.inversion.renoise import ReNoise
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning, effective_guidance_scale
from renoise.utils.configurable import describe
from renoise.utils.progress import show_progress

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


class InversionPipeline:
    """A diffusion model with the steps of its sampler and an inversion method. `renoise.load` makes one.

    Args:
        model: The model.
        scheduler: The diffusers scheduler that the steps were read off.
        schedule: The sampler's steps.
        inversion: The inversion method. None is ReNoise with its default options.
        guidance_scale: Guidance during inversion and reconstruction, 1 or more. 1 is without; 0 means the same.
        seed: Seed of all random numbers.
        settings: How the pipeline was made, in JSON types. It is saved with every inversion.
        inversion_schedule: The steps of the inversion. None takes the sampler's.

    Raises:
        ValueError: Inversion and sampler have different steps, and any of them draws noise.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> images = pipeline.invert("data/images/scenes/00-cat.png", "a cat on a checkered green background")
        >>> images.edit("a dog on a checkered green background")[0].size
        (64, 64)
    """

    def __init__(
        self,
        model: DiffusionModel,
        scheduler: SchedulerMixin,
        schedule: Schedule,
        inversion: Inverter | None = None,
        guidance_scale: float = 1.0,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        inversion_schedule: Schedule | None = None,
    ) -> None:
        self.model = model
        self.scheduler = scheduler
        self.schedule = schedule
        self.inversion_schedule = inversion_schedule or schedule
        check_deterministic(self.inversion_schedule, schedule)
        self.inversion = inversion or ReNoise()
        self.guidance_scale = effective_guidance_scale(guidance_scale)
        self.seed = seed
        self.settings = dict(settings or {})
        self._schedules: dict[tuple[int, int], tuple[Schedule, ...]] = {}

    @property
    def num_inversion_steps(self) -> int | None:
        """Number of steps of the inversion. None where they are the sampler's."""
        return None if self.inversion_schedule == self.schedule else len(self.inversion_schedule)

    def schedules_for(self, latents: torch.Tensor) -> tuple[Schedule, Schedule]:
        """Returns the steps of the inversion and those of the sampler for latents [B, C, h, w].

        Only a dynamic shift depends on h and w. `schedule` and `inversion_schedule` are those of the checkpoint's
        default resolution.
        """
        if not self.scheduler.config.get("use_dynamic_shifting"):
            return self.inversion_schedule, self.schedule
        height, width = latents.shape[-2:]
        if (height, width) not in self._schedules:
            self._schedules[height, width] = tuple(
                self.model.read_schedule(self.scheduler, len(schedule), latent_size=(height, width))
                for schedule in (self.inversion_schedule, self.schedule)
            )
        inversion_schedule, schedule = self._schedules[height, width]
        return inversion_schedule, schedule

    def check(self, inversion: Inverter, keep_trajectory: bool = False) -> None:
        """Checks that a method can invert with the model and the steps, before any image is read.

        Args:
            inversion: The inversion method.
            keep_trajectory: Whether it is to keep the latents of every step.

        Raises:
            InputError: It cannot.
        """
        self.model.check_guidance(self.guidance_scale)
        with prefixed("inversion: ", ValueError):
            inversion.check(self.model, self.inversion_schedule, self.guidance_scale)
            if inversion.needs_same_steps:
                check_same_steps(type(inversion).__name__, self.schedule, self.num_inversion_steps)
        if keep_trajectory:
            with prefixed("", ValueError):
                check_same_steps("keep_trajectory", self.schedule, self.num_inversion_steps)

    def invert(
        self,
        images: ImageInput,
        prompt: str | Sequence[str] = "",
        *,
        inversion: Inverter | None = None,
        names: Sequence[str] | None = None,
        resolution: int | None = None,
        keep_trajectory: bool = False,
        progress: bool | None = None,
    ) -> InvertedImages:
        """Inverts images, all of them in one batch.

        Args:
            images: A PIL image, a path, a tensor [3, H, W] or [B, 3, H, W] in [0, 1], or a list of them.
            prompt: Describes the images: one prompt for all, or one for each.
            inversion: The inversion method. None takes the pipeline's.
            names: A name for each image, which its random numbers depend on. None takes the names of files, and
                "image-0", "image-1", … otherwise.
            resolution: Side in pixels of the square that images are cropped and resized to. None keeps their sizes.
            keep_trajectory: Whether to keep the latents of every step. Edits with a strength below 1 need them.
            progress: Whether to show a progress bar. None shows it where stderr is a terminal.

        Raises:
            InputError: An image cannot be read, has a size that the model cannot take, or could not be inverted; there
                are not as many prompts or names as images; or the method cannot work with the model or its sampler.
        """
        method = inversion or self.inversion
        self.check(method, keep_trajectory)
        prepared = prepare_images(images, names, resolution, self.model.size_multiple)
        prompts = one_for_each(prompt, len(prepared.names), "prompt")
        with show_progress(progress), torch.no_grad():
            inverted = self._invert(method, prepared, prompts, keep_trajectory)
        if inverted.failures:
            problems = "; ".join(f"{prepared.names[index]}: {text}" for index, text in inverted.failures.items())
            raise InputError(f"images: {problems}")
        settings = self.settings | {"inversion": describe(method)}
        return InvertedImages(self.model, inverted, prompts, prepared.names, prepared.time_ids, settings)

    def invert_latents(
        self,
        latents: torch.Tensor,
        conditioning: Conditioning,
        names: Sequence[str],
        keep_trajectory: bool = False,
        inversion: Inverter | None = None,
    ) -> Inversion:
        """Inverts B latents. The second level of the API: tensors in, tensors out.

        Args:
            latents: z_0, [B, C, h, w], as `DiffusionModel.encode_images` returns them.
            conditioning: Of the B prompts.
            names: B names, which random numbers depend on.
            keep_trajectory: Whether the inversion keeps the latents of every step.
            inversion: The inversion method. None takes the pipeline's.

        Raises:
            ValueError: The inversion method returned latents of another shape; or the sampler has other steps, and the
                inversion has more than z_T.
        """
        rng, method = ImageRNG(self.seed, names), inversion or self.inversion
        inversion_schedule, schedule = self.schedules_for(latents)
        inverted = method.invert(self.model, inversion_schedule, latents, conditioning, rng, keep_trajectory)
        if inverted.latents.shape != latents.shape:
            expected, found = list(latents.shape), list(inverted.latents.shape)
            raise ValueError(f"{type(method).__name__} must return latents of shape {expected}, got {found}")
        inverted.image = latents.clone()
        inverted.image[list(inverted.failures)] = torch.nan
        return inverted if self.num_inversion_steps is None else start_in(schedule, inverted)

    def _invert(
        self, method: Inverter, prepared: PreparedImages, prompts: Sequence[str], keep_trajectory: bool
    ) -> Inversion:
        latents = self.model.encode_images(prepared.pixels.to(self.model.device))
        time_ids = prepared.time_ids.to(self.model.device)
        conditioning = self.model.encode_prompts(prompts, self.guidance_scale, time_ids=time_ids)
        return self.invert_latents(latents, conditioning, prepared.names, keep_trajectory, method)
