"""An inversion in N steps that is sampled in S: what a loop of diffusers' own gives from its z_T."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from helpers.edits import random_latents
from helpers.random_network import RandomNetwork, prompts

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.edict import EDICT
from renoise.inversion.other_steps import check_deterministic, check_same_steps, start_in
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
DDIM = DDIMScheduler(**BETAS, clip_sample=False)
EULER = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
IMAGES = random_latents().double()
CONDITIONING = prompts(0.0, 0.2)
INVERSION_STEPS, STEPS = 9, 4


def inverted(network: RandomNetwork, scheduler: Any, method: Any = None) -> Inversion:
    schedule = Schedule.from_scheduler(scheduler, INVERSION_STEPS)
    rng = ImageRNG(0, ["a", "b"])
    inversion: Inversion = (method or ReNoise(2)).invert(network.model, schedule, IMAGES, CONDITIONING, rng)
    return inversion


@pytest.mark.parametrize("scheduler", [DDIM, EULER], ids=["DDIM", "Euler"])
def test_z_t_is_sampled_in_the_other_steps_as_the_scheduler_samples_it(scheduler: Any) -> None:
    network = RandomNetwork()
    inversion = inverted(network, scheduler)
    handed_over = start_in(Schedule.from_scheduler(scheduler, STEPS), inversion)
    assert (handed_over.num_inversion_steps, len(handed_over.schedule)) == (INVERSION_STEPS, STEPS)
    assert torch.equal(handed_over.nfe, inversion.nfe)
    scheduler.set_timesteps(INVERSION_STEPS)
    latents = scheduler.scale_model_input(inversion.latents, scheduler.timesteps[0])  # as the network takes z_T
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(STEPS)
    latents = latents / scheduler.scale_model_input(torch.ones(()).double(), scheduler.timesteps[0])
    torch.testing.assert_close(handed_over.latents, latents, rtol=1e-6, atol=0)
    latents = handed_over.latents
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(STEPS)
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        prediction = network.predict(scaled, float(timestep), CONDITIONING)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0].double()
    torch.testing.assert_close(sample(network.model, handed_over), latents, rtol=0, atol=1e-5)


def test_euler_whose_latents_are_wider_reconstructs_what_ddim_does() -> None:
    network, exact = RandomNetwork(), ReNoise(50)  # before convergence they differ in where an iteration starts
    ddim, euler = (
        sample(network.model, start_in(Schedule.from_scheduler(scheduler, STEPS), inverted(network, scheduler, exact)))
        for scheduler in (DDIM, EULER)
    )
    assert (ddim - IMAGES).abs().max() > 0.1, "the steps differ so much that agreement is no accident"
    torch.testing.assert_close(euler, ddim, rtol=0, atol=1e-3)


def test_latents_are_handed_over_bit_by_bit_where_the_network_takes_them_as_they_are() -> None:
    inversion = inverted(RandomNetwork(), DDIM)
    assert torch.equal(start_in(Schedule.from_scheduler(DDIM, STEPS), inversion).latents, inversion.latents)


def test_an_inversion_that_is_more_than_z_t_is_not_handed_over() -> None:
    schedule = Schedule.from_scheduler(DDIM, STEPS)
    with pytest.raises(ValueError, match=r"companion and sampler can only be sampled in its own steps"):
        start_in(schedule, inverted(RandomNetwork(), DDIM, EDICT()))
    plain = inverted(RandomNetwork(), DDIM)
    for name in ("noise", "trajectory", "null_embeddings"):
        with pytest.raises(ValueError, match=f"{name} can only be sampled in its own steps"):
            start_in(schedule, replace(plain, **{name: torch.zeros(1)}))


def test_other_steps_are_refused_where_either_schedule_draws_noise() -> None:
    ancestral = EulerAncestralDiscreteScheduler(**BETAS)
    many, one = (Schedule.from_scheduler(ancestral, steps) for steps in (4, 1))
    assert not one.is_stochastic
    for inversion, sampler in ((many, one), (one, many)):
        with pytest.raises(ValueError, match=rf"^num_inversion_steps must be null or {len(sampler)} .*draws noise"):
            check_deterministic(inversion, sampler)
    check_deterministic(many, many)


def test_what_needs_the_same_steps_is_told_both_numbers() -> None:
    schedule = Schedule.from_scheduler(DDIM, STEPS)
    check_same_steps("EDICT", schedule, None)
    with pytest.raises(ValueError, match=r"^EDICT needs .*num_inversion_steps must be null or 4 .*, got 9$"):
        check_same_steps("EDICT", schedule, 9)
