"""The inversion methods that can be chosen by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch

from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.direct import DirectInverter
from renoise.inversion.edit_friendly import EditFriendlyInverter
from renoise.inversion.null_text import NullTextInverter
from renoise.models.base import Conditioning, DiffusionModel

InversionMethod = Literal["renoise", "ddim", "pix2pix_zero", "edit_friendly", "null_text", "direct"]

PIX2PIX_ZERO = EditRegularization(lambda_pair=20.0, lambda_kl=20.0, rounds=5, shifts=5)
"""The regularization of pix2pix-zero's inversion, with its weights and rounds (arXiv 2302.03027)."""


class BatchInverter(Protocol):
    """What every method makes: something that inverts batches; see `Inverter.invert`."""

    def invert(self, latents: torch.Tensor, conditioning: Conditioning, images: Sequence[str]) -> Inversion:
        """Inverts B images at once."""


def make_inverter(
    method: InversionMethod,
    model: DiffusionModel,
    schedule: Schedule,
    renoising: Renoising,
    edit_losses: EditRegularization | None,
    noise_correction: NoiseCorrection,
    seed: int,
    keep_trajectory: bool,
    guidance_scale: float = 1.0,
) -> BatchInverter:
    """The inverter of a method; the others' settings are left aside.

    Args:
        method: `renoise`; `ddim`, the plain reversal of the sampler; `pix2pix_zero`, the same with each prediction
            regularized by L_pair and L_KL; `edit_friendly`, independent noisy latents and the noise between them;
            `null_text`, plain reversal and an unconditional embedding per step that leads back along it; `direct`,
            plain reversal whose latents put the way back right.
        model: the model.
        schedule: its sampler's steps.
        renoising: of `renoise`, and of the steps of `edit_friendly` that draw no noise.
        edit_losses: of `renoise`.
        noise_correction: of all but `edit_friendly`, which is one.
        seed: of everything random.
        keep_trajectory: whether inversions keep the latents of every level.
        guidance_scale: of the conditionings to come.

    Raises:
        InputError: `edit_friendly` with a sampler that draws no noise, `null_text` without guidance.
    """
    if method == "null_text" and guidance_scale == 1:
        raise InputError(
            "model.inversion null_text needs model.guidance_scale other than 1, such as 2: it optimizes what guidance "
            "leads away from"
        )
    if method == "edit_friendly":
        return EditFriendlyInverter(model, schedule, renoising, seed, keep_trajectory)
    plain = Renoising(0)
    solver, losses = {
        "renoise": (renoising, edit_losses),
        "ddim": (plain, None),
        "pix2pix_zero": (plain, PIX2PIX_ZERO),
        "null_text": (plain, None),
        "direct": (plain, None),
    }[method]
    inverter = Inverter(model, schedule, solver, losses, noise_correction, seed, keep_trajectory)
    if method == "null_text":
        return NullTextInverter(inverter)
    return DirectInverter(inverter) if method == "direct" else inverter
