"""The region of the latents that an edit may change, from the masks of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.inversion.base import Inversion, Sampler
from renoise.inversion.other_steps import check_same_steps

USER = "an edit that keeps what is outside of a mask"


def check_region(sampler: Sampler | None, schedule: Schedule, num_inversion_steps: int | None) -> None:
    """Checks that edits of an inversion can keep the latents outside of a mask.

    Args:
        sampler: Sampler of the inversion method. None is that of the schedule.
        schedule: The sampler's steps.
        num_inversion_steps: Number of steps of the inversion. None where they are the sampler's.

    Raises:
        ValueError: They cannot.
    """
    if sampler is not None:
        raise ValueError(
            f"{USER} takes the steps of the schedule, and {type(sampler).__name__} has a sampler of its own; invert "
            "with ReNoise"
        )
    check_same_steps(USER, schedule, num_inversion_steps)


def region_of(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Returns the latents that an edit may change: those of which any pixel may change.

    Args:
        mask: Where the edit may change the image, bool [H, W].
        size: (h, w) of the latents, at most (H, W). Where it does not divide (H, W), the pixels of neighboring latents
            overlap.

    Returns:
        bool [1, h, w].

    Example:
        >>> import torch
        >>> from renoise.editing.region import region_of
        >>> region_of(torch.eye(6, dtype=torch.bool), (2, 3)).int()
        tensor([[[1, 1, 0],
                 [0, 1, 1]]], dtype=torch.int32)
    """
    return F.adaptive_max_pool2d(mask[None].float(), size) > 0


def restrict(inversion: Inversion, requests: Sequence[EditRequest]) -> Inversion:
    """Returns the inversion for edits that keep the latents outside of the masks of their requests.

    Args:
        inversion: Of B images.
        requests: B requests. One without a mask may change the whole image.

    Raises:
        ValueError: The inversion kept no trajectory, or has a sampler of its own; or a mask is not bool [H, W], or
            smaller than the latents.
    """
    if all(request.mask is None for request in requests):
        return inversion
    check_region(inversion.sampler, inversion.schedule, inversion.num_inversion_steps)
    if inversion.trajectory is None:
        raise ValueError(f"{USER} needs an inversion that kept its trajectory: invert with keep_trajectory=True")
    height, width = inversion.latents.shape[-2:]
    for request in requests:
        mask = request.mask
        if mask is None:
            continue
        if mask.dtype != torch.bool or mask.ndim != 2 or mask.shape[0] < height or mask.shape[1] < width:
            found = f"{mask.dtype} {list(mask.shape)}"
            raise ValueError(f"{request.file_name}: mask must be bool [height, width] of the image, got {found}")
    everywhere = torch.ones(height, width, dtype=torch.bool)
    masks = [everywhere if request.mask is None else request.mask.cpu() for request in requests]
    region = torch.stack([region_of(mask, (height, width)) for mask in masks])
    return replace(inversion, region=region.to(inversion.latents.device))
