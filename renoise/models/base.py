"""The interface of a diffusion model: what inversion and editing need of a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from renoise.core.schedule import Schedule
from renoise.models.conditioning import Conditioning, guide
from renoise.utils.precision import default_device_and_dtype

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin


class DiffusionModel(nn.Module, ABC):
    """A diffusers pipeline behind the calls that inversion and editing need.

    A subclass is one family of pipelines. It is registered under the entry-point group `renoise.models`. The networks
    of the pipeline are submodules, so Lightning moves and casts them. Latents are what the pipeline denoises, in
    float32 or wider, also where the networks are in half precision.

    Args:
        pipeline: An instance of the class named by `pipeline_class`.

    Example:
        >>> import renoise
        >>> model = renoise.load("data/models/tiny-sd").model
        >>> latents = model.encode_images(torch.zeros(1, 3, 64, 64))
        >>> latents.shape
        torch.Size([1, 4, 16, 16])
        >>> model.predict(latents, 500, model.encode_prompts(["a cat"])).shape
        torch.Size([1, 4, 16, 16])
    """

    pipeline_class: ClassVar[str]
    """Name of the pipeline's class, which a checkpoint's `model_index.json` holds."""

    checked_with: ClassVar[str] = ""
    """What the family was checked with short of real weights, which `renoise models` shows. Empty says nothing."""

    network: nn.Module
    """What predicts: the UNet or transformer."""

    is_flow: ClassVar[bool] = False
    """Whether the network predicts v = noise − z_0 of flow matching. Its schedulers are those of flow matching."""

    movable: bool = True
    """Whether the model may be moved and cast. Not where hooks of diffusers do so while it runs."""

    differentiable: bool = True
    """Whether the network gives gradients. Not where its weights leave the device before they are computed."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        super().__init__()
        self.pipeline = pipeline

    @property
    def scheduler(self) -> SchedulerMixin:
        """The pipeline's own scheduler."""
        return self.pipeline.scheduler

    @property
    def device(self) -> torch.device:
        """Where the network runs, also where its weights are kept elsewhere between its calls."""
        return torch.device(self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """Type in which the network computes. Weights that are stored in 8 bits or fewer are cast to it."""
        return next(p.dtype for p in self.network.parameters() if p.is_floating_point() and p.dtype.itemsize > 1)

    def check_differentiable(self, user: str) -> None:
        """Raises ValueError where the network gives no gradients.

        Args:
            user: Name of the editor or inversion method that needs them.
        """
        if not self.differentiable:
            raise ValueError(f"{user} needs gradients, which offload group does not give; use offload model")

    @property
    def state_dtype(self) -> torch.dtype:
        """Type of the latents: float32, or float64 with a network in float64."""
        return torch.promote_types(torch.float32, self.dtype)

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the guidance scale is an input of the network. There is then no unconditional branch."""
        return False

    @property
    def is_few_step(self) -> bool:
        """Whether the checkpoint was distilled to sample in a few steps, so that many are of no use."""
        return False

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """C of the latents [B, C, h, w]."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Height and width of images must be multiples of this many pixels."""

    @property
    @abstractmethod
    def default_resolution(self) -> int:
        """Height and width in pixels of the images that the checkpoint was trained on."""

    def timestep_options(
        self, scheduler: SchedulerMixin, num_inference_steps: int, latent_size: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """Returns the arguments of `scheduler.set_timesteps` that the family's pipeline adds. The base class has none.

        Args:
            scheduler: The scheduler.
            num_inference_steps: S, the number of steps.
            latent_size: h and w of the latents, which a dynamic shift depends on. None is the default resolution's.
        """
        return {}

    def read_schedule(
        self,
        scheduler: SchedulerMixin,
        num_inference_steps: int,
        eta: float = 0.0,
        latent_size: tuple[int, int] | None = None,
    ) -> Schedule:
        """Reads the steps off a scheduler as the family's pipeline sets them; see `Schedule.from_scheduler`."""
        with default_device_and_dtype():  # in a run in bfloat16, noise levels would be rounded to it
            options = self.timestep_options(scheduler, num_inference_steps, latent_size)
            return Schedule.from_scheduler(scheduler, num_inference_steps, eta, options)

    def check_guidance(self, guidance_scale: float) -> None:
        """Raises InputError where the checkpoint has no guidance of this scale. By default every scale works.

        Args:
            guidance_scale: 1 is without guidance.
        """

    @abstractmethod
    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Returns the part of a prompt that the text encoder takes, and the rest that it cuts off."""

    @abstractmethod
    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Returns the first character and the one after the last of every token that the text encoder takes.

        In `prompt_embeds`, token i of this list has position i + 1: a start token precedes them.
        """

    @abstractmethod
    def encode_prompts(
        self,
        prompts: Sequence[str],
        guidance_scale: float = 1.0,
        negative_prompts: Sequence[str] | None = None,
        time_ids: torch.Tensor | None = None,
    ) -> Conditioning:
        """Encodes B prompts. The part of a prompt beyond the text encoder's length is cut off.

        Args:
            prompts: B prompts.
            guidance_scale: 1 or more. 0 means 1, as in diffusers. The negative embeddings are made only where it is not
                1, and not where the network takes the guidance scale as an input.
            negative_prompts: Of the unconditional branch. None takes the checkpoint's default, often the empty prompt.
            time_ids: Sizes of the images, [B, 6], see `Conditioning`. None means the checkpoint's own size, uncropped.
        """

    @abstractmethod
    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images [B, 3, H, W] in [0, 1] as latents [B, C, h, w]: the mean of the autoencoder's posterior."""

    @abstractmethod
    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes latents [B, C, h, w] as images [B, 3, H, W] in [0, 1], float32."""

    @abstractmethod
    def network_inputs(self, branches: Sequence[Conditioning]) -> dict[str, Any]:
        """Returns the network's keyword arguments for several conditionings of B images, one after the other."""

    def call_network(self, latents: torch.Tensor, timestep: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Returns the network's output.

        Args:
            latents: The network's input, [N, C, h, w], in the network's type.
            timestep: t of all images, [], or of each, [N].
            inputs: What `network_inputs` returned.
        """
        output: torch.Tensor = self.network(latents, timestep, return_dict=False, **inputs)[0]
        return output

    def predict(
        self,
        latents: torch.Tensor,
        timestep: float | torch.Tensor,
        conditioning: Conditioning,
    ) -> torch.Tensor:
        """Predicts with guidance where the guidance scale is not 1; see `guide`.

        Args:
            latents: The network's input, [B, C, h, w], already scaled by the step's `input_scale`.
            timestep: t of all images, or of each, [B].
            conditioning: Of the B images.

        Returns:
            What the checkpoint predicts (ε, v, …), in the type of the latents.
        """
        predictions = self.predict_branches([latents] * conditioning.nfe, timestep, conditioning.branches)
        return self.guide(predictions, conditioning.guidance_scale)

    def guide(self, predictions: Sequence[torch.Tensor], guidance_scale: float) -> torch.Tensor:
        """Combines the predictions of the branches as the family's pipeline does: ε_∅ + s · (ε_c − ε_∅) by default.

        Args:
            predictions: [ε_∅, ε_c], or [ε_c] alone, which is returned as it is.
            guidance_scale: s. 1 is without guidance in every family.
        """
        return guide(predictions, guidance_scale)

    def predict_branches(
        self,
        latents: Sequence[torch.Tensor],
        timestep: float | torch.Tensor,
        branches: Sequence[Conditioning],
    ) -> list[torch.Tensor]:
        """Predicts several batches of B images in one call of the network, without guidance.

        Args:
            latents: The network's input for each branch, [B, C, h, w], already scaled by the step's `input_scale`.
            timestep: t of all images, or of each, [B].
            branches: The conditioning of each branch, of B images. Their guidance scales matter only to a network that
                takes it as an input.

        Returns:
            The prediction for each branch, in the type of the latents.
        """
        inputs = torch.cat(list(latents)).to(self.dtype)
        if isinstance(timestep, torch.Tensor):
            timestep = timestep.repeat(len(branches))
        else:  # filled on the device: the network would copy a number there, and a GPU waits for such a copy
            timestep = torch.full((), timestep, dtype=torch.float32, device=inputs.device)
        output = self.call_network(inputs, timestep, self.network_inputs(branches))
        return list(output.to(latents[0].dtype).split(len(latents[0])))
