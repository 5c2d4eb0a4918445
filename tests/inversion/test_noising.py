from __future__ import annotations

import pytest
import torch
from helpers.edits import PROMPTS, invert, random_latents

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.noising import Noising
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.schedulers import replace_scheduler


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_every_level_has_the_same_noise_and_no_network_is_called(model: DiffusionModel, scheduler: str) -> None:
    schedule = Schedule.from_scheduler(replace_scheduler(model.scheduler, scheduler, None), 4)
    inversion = invert(model, Noising(), schedule=schedule, keep_trajectory=False)
    noise = ImageRNG(0, PROMPTS).normal("noising", (4, 8, 8))
    assert inversion.trajectory is not None
    for step, latents in zip(schedule, inversion.trajectory, strict=False):
        torch.testing.assert_close(latents, step.signal * random_latents() + step.sigma * noise)
    assert inversion.latents.equal(inversion.trajectory[0])
    assert inversion.nfe.tolist() == [0, 0]
    assert (inversion.noise is None) == (scheduler == "DDIMScheduler")
    assert sample(model, inversion).equal(random_latents())
