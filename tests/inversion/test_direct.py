from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from helpers.inversions import BoundInverter

from benchmarks.shared.scenes import UNSEEN_SEED, prompts_of
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.ddim import DDIM
from renoise.inversion.direct import DirectInversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
STEPS = 4


@pytest.fixture(scope="module")
def plain(model: DiffusionModel) -> BoundInverter:
    return BoundInverter(DDIM(), model, Schedule.from_scheduler(model.scheduler, STEPS))


@pytest.fixture(scope="module")
def direct(model: DiffusionModel) -> BoundInverter:
    return BoundInverter(DirectInversion(), model, Schedule.from_scheduler(model.scheduler, STEPS))


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel, direct: BoundInverter, latents: torch.Tensor) -> Inversion:
    return direct.invert(latents, *prompts_of(model, SCENES))


def test_the_reconstruction_is_the_image_bit_by_bit(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    assert torch.equal(sample(model, inversion), latents)


def test_the_inversion_does_not_use_guidance(
    model: DiffusionModel, direct: BoundInverter, inversion: Inversion, latents: torch.Tensor
) -> None:
    conditioning = model.encode_prompts([scene.caption for scene in SCENES], 3.0)
    guided = direct.invert(latents, conditioning, ["0", "1"])
    torch.testing.assert_close(guided.latents, inversion.latents)
    assert guided.nfe.tolist() == [STEPS, STEPS]
    assert guided.conditioning.nfe == 1, "sampling is without guidance too"


def test_guidance_that_it_would_not_use_is_refused(model: DiffusionModel, direct: BoundInverter) -> None:
    with pytest.raises(ValueError, match=r"^DirectInversion inverts .* guidance_scale must be 1, got 3; the guidance"):
        direct.method.check(model, direct.schedule, guidance_scale=3.0)
    direct.method.check(model, direct.schedule, guidance_scale=1.0)


def test_it_is_exact_with_guidance_and_a_stochastic_sampler(model: DiffusionModel, latents: torch.Tensor) -> None:
    schedule = Schedule.from_scheduler(DDIMScheduler.from_config(model.scheduler.config), STEPS, eta=1.0)
    conditioning = model.encode_prompts([scene.caption for scene in SCENES], 3.0)
    inversion = BoundInverter(DirectInversion(), model, schedule).invert(latents, conditioning, ["0", "1"])
    assert inversion.noise is not None
    assert torch.equal(sample(model, inversion), latents)


def test_an_editor_that_samples_the_image_beside_its_edit_gets_the_trajectory(inversion: Inversion) -> None:
    assert inversion.trajectory is not None
    latents = inversion.latents
    for index in range(STEPS):
        assert torch.equal(latents, inversion.trajectory[index])
        latents = inversion.denoise_reference(index, latents, torch.full_like(latents, 7.0))
    assert torch.equal(latents, inversion.trajectory[STEPS])


def test_the_branch_of_the_edit_is_not_changed(
    model: DiffusionModel, plain: BoundInverter, direct: BoundInverter, latents: torch.Tensor
) -> None:
    conditioning, names = prompts_of(model, SCENES)
    other = model.encode_prompts(["a frog", "a wolf"], 2.0)
    edited = sample(model, direct.invert(latents, conditioning, names), other)
    assert torch.equal(edited, sample(model, plain.invert(latents, conditioning, names), other))
    assert not torch.equal(edited, latents)


def test_its_latents_and_function_evaluations_are_those_of_ddim_inversion(
    model: DiffusionModel, inversion: Inversion, plain: BoundInverter, latents: torch.Tensor
) -> None:
    ddim = plain.invert(latents, *prompts_of(model, SCENES))
    assert torch.equal(inversion.latents, ddim.latents)
    assert inversion.nfe.tolist() == ddim.nfe.tolist() == [STEPS, STEPS]
    assert ddim.trajectory is None
    assert inversion.trajectory is not None
    assert torch.equal(inversion.trajectory[0], inversion.latents)
    assert torch.equal(inversion.trajectory[STEPS], latents)


def test_selected_images_follow_their_own_trajectory(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    one = inversion.select([1])
    assert one.follows_trajectory
    assert inversion.trajectory is not None
    assert torch.equal(sample(model, one), latents[1:])
    zeros = torch.zeros_like(one.latents)
    assert torch.equal(one.denoise_reference(0, zeros, zeros), inversion.trajectory[1, 1:])


def test_plain_inversion_does_not_follow_its_trajectory(
    model: DiffusionModel, plain: BoundInverter, latents: torch.Tensor
) -> None:
    inversion = plain.invert(latents, *prompts_of(model, SCENES))
    assert not inversion.follows_trajectory
    zeros = torch.zeros_like(latents)
    assert torch.equal(
        inversion.denoise_reference(0, latents, zeros), inversion.schedule.steps[0].denoise(latents, zeros, None)
    )
