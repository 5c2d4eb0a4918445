"""What the families of flow matching share: a transformer of patches, and noise levels that depend on their number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from renoise.errors import InputError
from renoise.models.stable_diffusion import StableDiffusion


class FlowTransformer(StableDiffusion):
    """Base of the families of flow matching. The network predicts v = noise − z_0 at z_σ = (1 − σ) z_0 + σ noise.

    A family says which noise levels it gives to the scheduler, whether a checkpoint has guidance, and which parts of a
    pipeline do not fit together.

    Example:
        >>> import renoise
        >>> from renoise.models.flow_transformer import FlowTransformer
        >>> issubclass(renoise.Flux, FlowTransformer)
        True
    """

    network_part = "transformer"
    is_flow = True

    @property
    def takes_guidance_scale(self) -> bool:
        """Guidance is not an input of the network."""
        return False

    @property
    def has_guidance(self) -> bool:
        """Whether the checkpoint knows guidance. Those that do not were distilled to a few steps without it."""
        return True

    @property
    def is_few_step(self) -> bool:
        """Whether the checkpoint was distilled to a few steps without guidance."""
        return not self.has_guidance

    @property
    def patch_size(self) -> int:
        """Latents along each side of a patch."""
        return 2

    @property
    def size_multiple(self) -> int:
        """Pixels of an image along each side of a patch."""
        return int(self.pipeline.vae_scale_factor * self.patch_size)

    @property
    def default_resolution(self) -> int:
        """The pipeline's own size in pixels."""
        return int(self.pipeline.default_sample_size * self.pipeline.vae_scale_factor)

    def timestep_options(
        self, scheduler: SchedulerMixin, num_inference_steps: int, latent_size: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """Returns the levels before the shift, and μ of a dynamic one; see `DiffusionModel.timestep_options`."""
        sigmas = self.unshifted_sigmas(num_inference_steps)
        options: dict[str, Any] = {} if sigmas is None else {"sigmas": sigmas}
        if scheduler.config.get("use_dynamic_shifting"):
            default = self.default_resolution // self.size_multiple * self.patch_size
            height, width = (side // self.patch_size for side in latent_size or (default, default))
            options["mu"] = self.shift(scheduler, height * width, num_inference_steps)
        return options

    def unshifted_sigmas(self, num_inference_steps: int) -> list[float] | None:
        """Returns the noise levels that the pipeline gives its scheduler, [S]. None where it leaves them to it."""
        return None

    def shift(self, scheduler: SchedulerMixin, patches: int, num_inference_steps: int) -> float:
        """Returns μ of the dynamic shift. By default it is linear in the number of patches of an image.

        Args:
            scheduler: Has `base_shift` at `base_image_seq_len` patches and `max_shift` at `max_image_seq_len`.
            patches: Of one image.
            num_inference_steps: S, the number of steps.
        """
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        return float(calculate_shift(patches, *(scheduler.config[name] for name in names)))

    def check_guidance(self, guidance_scale: float) -> None:
        """Refuses every scale but 1 for a checkpoint without guidance; see `DiffusionModel.check_guidance`."""
        if guidance_scale != 1 and not self.has_guidance:
            raise InputError(
                f"guidance_scale must be 1, got {guidance_scale:g}: the checkpoint was distilled "
                "to work without guidance"
            )

    def check_parts(self, pipeline: DiffusionPipeline) -> None:
        """Checks that the parts of a pipeline fit together; see `StableDiffusion.check_parts`."""
        problems = list(self.problems(pipeline))
        if problems:
            raise ValueError(f"does not fit {self.pipeline_class}: {'; '.join(problems)}")

    @abstractmethod
    def problems(self, pipeline: DiffusionPipeline) -> Iterator[str]:
        """Yields what does not fit together in a pipeline."""
