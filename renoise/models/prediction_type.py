"""Checks that a network predicts what its scheduler says."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from renoise.errors import InputError
from renoise.models.base import DiffusionModel

PROBE_SIDE = 32
"""Height and width of the noise that `check_prediction_type` asks the network about. Every UNet takes it."""
MIN_NOISE_SIMILARITY = 0.8
"""Least cosine between pure noise and the prediction of an ε-predicting network. Such networks reach 0.95 or more."""


@torch.no_grad()
def check_prediction_type(model: DiffusionModel, prediction_type: str, checkpoint: str) -> None:
    """Checks what the network predicts. For pure noise, only a network that predicts ε returns that noise.

    A network's configuration does not say what it predicts, and under a scheduler that is wrong about it the inversion
    fails without a message. The network is called once, where it is and in its own precision.

    Args:
        model: Whose network is called.
        prediction_type: What the scheduler takes the network's output for.
        checkpoint: Its name, for the message.

    Raises:
        InputError: The scheduler's `prediction_type` cannot be right.
    """
    shape = (1, model.latent_channels, PROBE_SIDE, PROBE_SIDE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    timestep = model.scheduler.config.num_train_timesteps - 1
    prediction = model.predict(noise, timestep, model.encode_prompts([""])).float()
    if not prediction.isfinite().all():
        return  # every image fails later with a message of its own
    similarity = F.cosine_similarity(prediction.flatten(), noise.flatten(), dim=0).item()
    possible = ("epsilon",) if similarity > MIN_NOISE_SIMILARITY else ("v_prediction", "sample")
    if prediction_type not in possible:
        raise InputError(
            f"checkpoint: the scheduler of {checkpoint} says prediction_type {prediction_type}, but the network "
            f"predicts {' or '.join(possible)}: its output for pure noise has a cosine of {similarity:.2f} with that "
            "noise. Set scheduler and scheduler_options.prediction_type"
        )
