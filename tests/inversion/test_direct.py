from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from renoise.inversion.direct import DirectInverter
from renoise.inversion.methods import make_inverter

from benchmarks.evaluation import UNSEEN_SEED, prompts_of
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.models.base import DiffusionModel
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
STEPS = 4


@pytest.fixture(scope="module")
def plain(model: DiffusionModel) -> Inverter:
    return Inverter(model, Schedule.from_scheduler(model.scheduler, STEPS), Renoising(0))


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel, plain: Inverter, latents: torch.Tensor) -> Inversion:
    return DirectInverter(plain).invert(latents, *prompts_of(model, SCENES))


def test_it_comes_back_to_the_image_to_the_last_bit(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    assert torch.equal(sample(model, inversion), latents)


def test_guidance_is_left_to_the_edit(model: DiffusionModel, inversion: Inversion, latents: torch.Tensor) -> None:
    conditioning = model.encode_prompts([scene.caption for scene in SCENES], 3.0)
    inverter = DirectInverter(Inverter(model, inversion.schedule, Renoising(0)))
    guided = inverter.invert(latents, conditioning, ["0", "1"])
    torch.testing.assert_close(guided.latents, inversion.latents)
    assert guided.nfe.tolist() == [STEPS, STEPS]
    assert guided.conditioning.nfe == 1, "nor does it cost an editor rows"


def test_with_guidance_and_a_sampler_that_draws_noise_too(model: DiffusionModel, latents: torch.Tensor) -> None:
    schedule = Schedule.from_scheduler(DDIMScheduler.from_config(model.scheduler.config), STEPS, eta=1.0)
    conditioning = model.encode_prompts([scene.caption for scene in SCENES], 3.0)
    inversion = DirectInverter(Inverter(model, schedule, Renoising(0))).invert(latents, conditioning, ["0", "1"])
    assert inversion.noise is not None
    assert torch.equal(sample(model, inversion), latents)


def test_an_editor_that_walks_the_source_beside_its_edit_is_given_the_trajectory(inversion: Inversion) -> None:
    assert inversion.trajectory is not None
    latents = inversion.latents
    for index in range(STEPS):
        assert torch.equal(latents, inversion.trajectory[index])
        latents = inversion.denoise_reference(index, latents, torch.full_like(latents, 7.0))
    assert torch.equal(latents, inversion.trajectory[STEPS])


def test_the_edits_own_branch_is_left_alone(model: DiffusionModel, plain: Inverter, latents: torch.Tensor) -> None:
    conditioning, names = prompts_of(model, SCENES)
    other = model.encode_prompts(["a frog", "a wolf"], 2.0)
    direct, ddim = (
        DirectInverter(plain).invert(latents, conditioning, names),
        plain.invert(latents, conditioning, names),
    )
    edited = sample(model, direct, other)
    assert torch.equal(edited, sample(model, ddim, other))
    assert not torch.equal(edited, latents)


def test_what_it_finds_and_costs_is_what_ddim_inversion_finds_and_costs(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, STEPS)
    direct, ddim = (
        make_inverter(method, model, schedule, Renoising(5), None, NoiseCorrection(), 0, False).invert(
            latents, *prompts_of(model, SCENES)
        )
        for method in ("direct", "ddim")
    )
    assert torch.equal(direct.latents, ddim.latents)
    assert direct.nfe.tolist() == ddim.nfe.tolist() == [STEPS, STEPS]
    assert ddim.trajectory is None
    assert direct.trajectory is not None
    assert torch.equal(direct.trajectory[0], direct.latents)
    assert torch.equal(direct.trajectory[STEPS], latents)


def test_some_images_of_a_batch_keep_to_their_own_trajectory(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    one = inversion.select([1])
    assert one.follows_trajectory
    assert inversion.trajectory is not None
    assert torch.equal(sample(model, one), latents[1:])
    zeros = torch.zeros_like(one.latents)
    assert torch.equal(one.denoise_reference(0, zeros, zeros), inversion.trajectory[1, 1:])


def test_no_other_inversion_keeps_to_its_trajectory(
    model: DiffusionModel, plain: Inverter, latents: torch.Tensor
) -> None:
    inversion = plain.invert(latents, *prompts_of(model, SCENES))
    assert not inversion.follows_trajectory
    zeros = torch.zeros_like(latents)
    assert torch.equal(
        inversion.denoise_reference(0, latents, zeros), inversion.schedule.steps[0].denoise(latents, zeros, None)
    )
