from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline

from renoise.benchmark import BENCHMARK_SEED, TABLE_1, Accuracy, accuracy, images_of, prompts_of
from renoise.checkpoint import load_denoiser
from renoise.denoiser import Conditioning, Denoiser
from renoise.inversion import Inverter, sample
from renoise.schedule import Schedule
from renoise.solver import AveragingWeights, Renoising
from renoise.zoo.scenes import random_scenes

SCENES = random_scenes(8, BENCHMARK_SEED)


@pytest.fixture(scope="module")
def denoiser(tiny_sd: Path) -> Denoiser:
    return load_denoiser(str(tiny_sd))


@pytest.fixture(scope="module")
def latents(denoiser: Denoiser) -> torch.Tensor:
    with torch.no_grad():
        return denoiser.encode_images(images_of(SCENES))


def inverter(denoiser: Denoiser, steps: int, iterations: int, tolerance: float | None = None) -> Inverter:
    return Inverter(denoiser, Schedule.read(denoiser.scheduler, steps), Renoising(iterations, None, tolerance))


def measured(denoiser: Denoiser, steps: int, iterations: int, weights: AveragingWeights | None = None) -> Accuracy:
    return accuracy(denoiser, SCENES, steps, Renoising(iterations, weights))


def test_at_10_steps_every_renoising_iteration_brings_the_round_trip_closer(denoiser: Denoiser) -> None:
    found = [measured(denoiser, 10, iterations) for iterations in (0, 1, 4, 9)]
    errors, psnrs = [one.latent_mse for one in found], [one.psnr for one in found]
    assert errors == sorted(errors, reverse=True)
    assert psnrs == sorted(psnrs)
    assert errors[1] <= errors[0] / 4
    assert errors[2] <= errors[0] / 20
    assert errors[3] <= errors[0] / 80
    assert [one.network_rows for one in found] == [10, 20, 50, 100]


def test_at_50_steps_table_1_reaches_the_ceiling_and_four_iterations_the_latents(denoiser: Denoiser) -> None:
    plain = measured(denoiser, 50, 0)
    table_1 = measured(denoiser, 50, 1, TABLE_1)
    four = measured(denoiser, 50, 4)
    assert table_1.latent_mse <= plain.latent_mse / 4
    assert table_1.psnr >= table_1.psnr_vae - 0.15
    assert four.latent_mse <= plain.latent_mse / 150
    assert plain.psnr < table_1.psnr
    assert [one.network_rows for one in (plain, table_1, four)] == [50, 100, 250]


def test_a_converged_inversion_is_a_fixed_point(tiny_sd: Path) -> None:
    denoiser = load_denoiser(str(tiny_sd)).double()
    assert accuracy(denoiser, SCENES[:1], 50, Renoising(30)).latent_mse <= 1e-10


@torch.no_grad()
def test_an_image_comes_out_the_same_alone_and_among_others(denoiser: Denoiser, latents: torch.Tensor) -> None:
    one_by_one = inverter(denoiser, 4, 3, tolerance=1e-2)
    together = one_by_one.invert(latents, *prompts_of(denoiser, SCENES))
    alone = one_by_one.invert(latents[2:3], *prompts_of(denoiser, SCENES[2:3]))
    torch.testing.assert_close(together.latents[2:3], alone.latents, rtol=0, atol=1e-4)
    assert together.network_rows[2] == alone.network_rows[0]


@torch.no_grad()
def test_a_tolerance_saves_rows_image_by_image(denoiser: Denoiser, latents: torch.Tensor) -> None:
    free = inverter(denoiser, 4, 9).invert(latents, *prompts_of(denoiser, SCENES))
    stopped = inverter(denoiser, 4, 9, tolerance=3e-2).invert(latents, *prompts_of(denoiser, SCENES))
    assert (free.network_rows == 40).all()
    assert (stopped.network_rows < 40).all()
    assert len(set(stopped.network_rows.tolist())) > 1


@torch.no_grad()
def test_the_sampler_is_diffusers_own(tiny_sd: Path, denoiser: Denoiser, latents: torch.Tensor) -> None:
    inversion = inverter(denoiser, 5, 1).invert(latents, *prompts_of(denoiser, SCENES))
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    captions = [scene.caption for scene in SCENES]
    for guidance_scale in (1.0, 3.0):
        conditioning = denoiser.encode_prompts(captions, guidance_scale)
        expected = pipeline(
            captions,
            latents=inversion.latents,
            num_inference_steps=5,
            guidance_scale=guidance_scale,
            output_type="latent",
        ).images
        torch.testing.assert_close(sample(denoiser, inversion, conditioning), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_guidance_during_inversion_is_undone_by_the_same_guidance(denoiser: Denoiser, latents: torch.Tensor) -> None:
    conditioning = denoiser.encode_prompts([scene.caption for scene in SCENES], 2.0)
    names = [str(number) for number in range(len(SCENES))]
    converged = inverter(denoiser, 20, 12).invert(latents, conditioning, names)
    assert float((sample(denoiser, converged) - latents).square().mean()) < 1e-3
    assert (converged.network_rows == 2 * 20 * 13).all()
    unguided = denoiser.encode_prompts([scene.caption for scene in SCENES])
    assert float((sample(denoiser, converged, unguided) - latents).square().mean()) > 1e-2


@torch.no_grad()
def test_a_stochastic_sampler_comes_back_through_its_own_noise(denoiser: Denoiser, latents: torch.Tensor) -> None:
    schedule = Schedule.read(LCMScheduler.from_config(denoiser.scheduler.config), 4)
    together = Inverter(denoiser, schedule, Renoising(2), seed=5)
    inversion = together.invert(latents[:2], *prompts_of(denoiser, SCENES[:2]))
    assert inversion.noise is not None
    assert inversion.noise.shape == (4, 2, *latents.shape[1:])
    assert abs(float(inversion.noise.std()) - 1) < 0.05
    alone = together.invert(latents[1:2], prompts_of(denoiser, SCENES[1:2])[0], ["1"])
    assert alone.noise is not None
    torch.testing.assert_close(alone.noise[:, 0], inversion.noise[:, 1])


class Poisoned:
    """Turns the prediction for one image into NaN or infinity from one timestep on."""

    def __init__(self, denoiser: Denoiser, marker: torch.Tensor, timestep: float, value: float) -> None:
        self.predict_noise, self.marker, self.timestep, self.value = denoiser.predict, marker, timestep, value

    def __call__(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        prediction = self.predict_noise(latents, timestep, conditioning)
        if timestep >= self.timestep:
            mine = (conditioning.prompt_embeds == self.marker).flatten(1).all(dim=1)
            prediction[mine] = self.value
        return prediction


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@torch.no_grad()
def test_latents_that_turn_nan_fail_alone_and_name_the_step(
    denoiser: Denoiser, latents: torch.Tensor, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioning, names = prompts_of(denoiser, SCENES[:3])
    method = inverter(denoiser, 4, 1)
    healthy = method.invert(latents[:3], conditioning, names)
    poisoned = Poisoned(denoiser, conditioning.prompt_embeds[1], 500, value)
    monkeypatch.setattr(denoiser, "predict", poisoned)
    inversion = method.invert(latents[:3], conditioning, names)
    assert list(inversion.failures) == [1]
    assert "inversion step 3 of 4 (timestep 501)" in inversion.failures[1]
    for neighbour in (0, 2):
        torch.testing.assert_close(inversion.latents[neighbour], healthy.latents[neighbour], rtol=0, atol=1e-5)
    assert inversion.latents[1].isnan().all()
    assert inversion.rows([1, 2]).failures == {0: inversion.failures[1]}
