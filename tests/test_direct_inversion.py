from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from renoise.denoiser import Denoiser
from renoise.direct_inversion import DirectInverter
from renoise.evaluation import UNSEEN_SEED, prompts_of
from renoise.inversion import Inversion, Inverter, sample
from renoise.inversion_methods import make_inverter
from renoise.noise_correction import NoiseCorrection
from renoise.schedule import Schedule
from renoise.solver import Renoising
from renoise.zoo.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
STEPS = 4


@pytest.fixture(scope="module")
def plain(denoiser: Denoiser) -> Inverter:
    return Inverter(denoiser, Schedule.read(denoiser.scheduler, STEPS), Renoising(0))


@pytest.fixture(scope="module")
def inversion(denoiser: Denoiser, plain: Inverter, latents: torch.Tensor) -> Inversion:
    return DirectInverter(plain).invert(latents, *prompts_of(denoiser, SCENES))


def test_it_comes_back_to_the_image_to_the_last_bit(
    denoiser: Denoiser, inversion: Inversion, latents: torch.Tensor
) -> None:
    assert torch.equal(sample(denoiser, inversion), latents)


def test_guidance_is_left_to_the_edit(denoiser: Denoiser, inversion: Inversion, latents: torch.Tensor) -> None:
    conditioning = denoiser.encode_prompts([scene.caption for scene in SCENES], 3.0)
    inverter = DirectInverter(Inverter(denoiser, inversion.schedule, Renoising(0)))
    guided = inverter.invert(latents, conditioning, ["0", "1"])
    torch.testing.assert_close(guided.latents, inversion.latents)
    assert guided.network_rows.tolist() == [STEPS, STEPS]
    assert guided.conditioning.network_rows == 1, "nor does it cost an editor rows"


def test_with_guidance_and_a_sampler_that_draws_noise_too(denoiser: Denoiser, latents: torch.Tensor) -> None:
    schedule = Schedule.read(DDIMScheduler.from_config(denoiser.scheduler.config), STEPS, eta=1.0)
    conditioning = denoiser.encode_prompts([scene.caption for scene in SCENES], 3.0)
    inversion = DirectInverter(Inverter(denoiser, schedule, Renoising(0))).invert(latents, conditioning, ["0", "1"])
    assert inversion.noise is not None
    assert torch.equal(sample(denoiser, inversion), latents)


def test_an_editor_that_walks_the_source_beside_its_edit_is_given_the_trajectory(inversion: Inversion) -> None:
    assert inversion.trajectory is not None
    latents = inversion.latents
    for index in range(STEPS):
        assert torch.equal(latents, inversion.trajectory[index])
        latents = inversion.denoise_source(index, latents, torch.full_like(latents, 7.0))
    assert torch.equal(latents, inversion.trajectory[STEPS])


def test_the_edits_own_branch_is_left_alone(denoiser: Denoiser, plain: Inverter, latents: torch.Tensor) -> None:
    conditioning, names = prompts_of(denoiser, SCENES)
    other = denoiser.encode_prompts(["a frog", "a wolf"], 2.0)
    direct, ddim = (
        DirectInverter(plain).invert(latents, conditioning, names),
        plain.invert(latents, conditioning, names),
    )
    edited = sample(denoiser, direct, other)
    assert torch.equal(edited, sample(denoiser, ddim, other))
    assert not torch.equal(edited, latents)


def test_what_it_finds_and_costs_is_what_ddim_inversion_finds_and_costs(
    denoiser: Denoiser, latents: torch.Tensor
) -> None:
    schedule = Schedule.read(denoiser.scheduler, STEPS)
    direct, ddim = (
        make_inverter(method, denoiser, schedule, Renoising(5), None, NoiseCorrection(), 0, False).invert(
            latents, *prompts_of(denoiser, SCENES)
        )
        for method in ("direct", "ddim")
    )
    assert torch.equal(direct.latents, ddim.latents)
    assert direct.network_rows.tolist() == ddim.network_rows.tolist() == [STEPS, STEPS]
    assert ddim.trajectory is None
    assert direct.trajectory is not None
    assert torch.equal(direct.trajectory[0], direct.latents)
    assert torch.equal(direct.trajectory[STEPS], latents)


def test_some_images_of_a_batch_keep_to_their_own_trajectory(
    denoiser: Denoiser, inversion: Inversion, latents: torch.Tensor
) -> None:
    one = inversion.rows([1])
    assert one.keeps_to_trajectory
    assert inversion.trajectory is not None
    assert torch.equal(sample(denoiser, one), latents[1:])
    zeros = torch.zeros_like(one.latents)
    assert torch.equal(one.denoise_source(0, zeros, zeros), inversion.trajectory[1, 1:])


def test_no_other_inversion_keeps_to_its_trajectory(denoiser: Denoiser, plain: Inverter, latents: torch.Tensor) -> None:
    inversion = plain.invert(latents, *prompts_of(denoiser, SCENES))
    assert not inversion.keeps_to_trajectory
    zeros = torch.zeros_like(latents)
    assert torch.equal(
        inversion.denoise_source(0, latents, zeros), inversion.schedule.steps[0].denoise(latents, zeros, None)
    )
