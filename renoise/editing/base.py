"""The interface of an editing method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from renoise.utils.configurable import Configurable

Need = Literal["trajectory", "noise", "attention", "steps", "image"]
"""What an editor can require: the latents of every step, a sampler that draws noise, access to the attention maps, an
inversion that the steps of the schedule sample (`Inversion.denoise`), which EDICT's, BDIA's and O-BELM's do not, and
z_0 of the images."""


@dataclass(frozen=True)
class EditRequest:
    """One image that an editor is asked to edit.

    Args:
        file_name: Name of the image.
        prompt: Describes the image. The image was inverted with it.
        edit_prompt: Describes the image after the edit. None where the image has no such text.
        mask: Where the edit may change the image, bool [H, W]. Latents of which no pixel may change stay exactly those
            of the image. None is everywhere.

    Example:
        >>> from renoise import EditRequest
        >>> EditRequest("cat.png", prompt="a cat on a sofa", edit_prompt="a dog on a sofa").edit_prompt
        'a dog on a sofa'
    """

    file_name: str
    prompt: str
    edit_prompt: str | None
    mask: torch.Tensor | None = field(default=None, compare=False)


class Editor(Configurable, ABC):
    """An editing method. Its constructor's typed arguments are its options in YAML and on the command line.

    A subclass is registered under the entry-point group `renoise.editors`. YAML then takes it by its class name.

    Example:
        >>> import renoise
        >>> class Mirror(renoise.Editor):
        ...     def refusal(self, request):
        ...         return None
        ...     def edit(self, model, inversion, requests):
        ...         return model.decode_latents(renoise.sample(model, inversion)).flip(-1)
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> inverted = pipeline.invert("data/images/scenes/00-cat.png", "a cat on a checkered green background")
        >>> inverted.edit(editor=Mirror())[0].size
        (64, 64)
    """

    needs: frozenset[Need] = frozenset()
    """What `edit` requires. A subclass sets it for the class, or in its constructor."""

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        """Checks that this editor can serve a model and its sampler. A run calls it before it reads any image.

        Args:
            model: The model that images will be inverted with.
            schedule: The sampler's steps.

        Raises:
            ValueError: The editor cannot serve them. The message begins with the editor's class name.
        """

    @abstractmethod
    def refusal(self, request: EditRequest) -> str | None:
        """Returns why an image cannot be edited, or None where it can. Called before the batch is edited."""

    @abstractmethod
    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Edits a batch of images. `refusal` returned None for each of them.

        Args:
            model: The model that the images were inverted with.
            inversion: The inversion of the B images.
            requests: B requests, in the order of `inversion`.

        Returns:
            The edited images, [B, 3, H, W] in [0, 1].
        """
