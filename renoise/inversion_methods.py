"""The inversion methods that can be chosen by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch

from renoise.denoiser import Conditioning, Denoiser
from renoise.edit_friendly_inversion import EditFriendlyInverter
from renoise.edit_losses import EditLosses
from renoise.inversion import Inversion, Inverter
from renoise.noise_correction import NoiseCorrection
from renoise.schedule import Schedule
from renoise.solver import Renoising

InversionMethod = Literal["renoise", "ddim", "pix2pix_zero", "edit_friendly"]

PIX2PIX_ZERO = EditLosses(lambda_pair=20.0, lambda_kl=20.0, rounds=5, shifts=5)
"""The regularisation of pix2pix-zero's inversion, with its weights and rounds (arXiv 2302.03027)."""


class BatchInverter(Protocol):
    """What every method makes: something that inverts batches; see `Inverter.invert`."""

    def invert(self, latents: torch.Tensor, conditioning: Conditioning, images: Sequence[str]) -> Inversion:
        """Inverts B images at once."""


def make_inverter(
    method: InversionMethod,
    denoiser: Denoiser,
    schedule: Schedule,
    renoising: Renoising,
    edit_losses: EditLosses | None,
    noise_correction: NoiseCorrection,
    seed: int,
    keep_trajectory: bool,
) -> BatchInverter:
    """The inverter of a method; the others' settings are left aside.

    Args:
        method: `renoise`; `ddim`, the plain reversal of the sampler; `pix2pix_zero`, the same with each prediction
            regularised by L_pair and L_KL; `edit_friendly`, independent noisy latents and the noise between them.
        denoiser: the model.
        schedule: its sampler's steps.
        renoising: of `renoise`, and of the steps of `edit_friendly` that draw no noise.
        edit_losses: of `renoise`.
        noise_correction: of all but `edit_friendly`, which is one.
        seed: of everything random.
        keep_trajectory: whether inversions keep the latents of every level.

    Raises:
        InputError: `edit_friendly` with a sampler that draws no noise.
    """
    if method == "edit_friendly":
        return EditFriendlyInverter(denoiser, schedule, renoising, seed, keep_trajectory)
    plain = Renoising(0)
    solver, losses = {
        "renoise": (renoising, edit_losses),
        "ddim": (plain, None),
        "pix2pix_zero": (plain, PIX2PIX_ZERO),
    }[method]
    return Inverter(denoiser, schedule, solver, losses, noise_correction, seed, keep_trajectory)
