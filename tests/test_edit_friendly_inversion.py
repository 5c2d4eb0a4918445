from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler

from renoise.denoiser import Conditioning, Denoiser
from renoise.edit_friendly_inversion import EditFriendlyInverter
from renoise.errors import InputError
from renoise.evaluation import UNSEEN_SEED, prompts_of
from renoise.inversion import sample
from renoise.schedule import Schedule
from renoise.solver import Renoising
from renoise.zoo.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
SAMPLERS = {"ddim": (DDIMScheduler, 1.0), "ddpm": (DDPMScheduler, 0.0)}
SAMPLERS |= {"lcm": (LCMScheduler, 0.0), "ancestral": (EulerAncestralDiscreteScheduler, 0.0)}


def inverter(denoiser: Denoiser, name: str, keep: bool = False, steps: int = 4) -> EditFriendlyInverter:
    sampler, eta = SAMPLERS[name]
    scheduler = sampler.from_config(denoiser.pipeline.scheduler.config, timestep_spacing="trailing")
    return EditFriendlyInverter(denoiser, Schedule.read(scheduler, steps, eta), Renoising(12), 0, keep)


@pytest.mark.parametrize(("name", "steps"), [("ddim", 4), ("ddpm", 20), ("lcm", 20), ("ancestral", 20)])
@torch.no_grad()
def test_sampling_with_the_noise_comes_back_to_the_image(
    denoiser: Denoiser, latents: torch.Tensor, name: str, steps: int
) -> None:
    """Exactly, but for a last step without noise, which has to be solved: the shorter it is, the better."""
    inversion = inverter(denoiser, name, steps=steps).invert(latents, *prompts_of(denoiser, SCENES))
    assert (sample(denoiser, inversion) - latents).square().mean() < 1e-4
    assert not inversion.failures


@torch.no_grad()
def test_noisy_latents_are_the_images_with_independent_noise(denoiser: Denoiser, latents: torch.Tensor) -> None:
    inversion = inverter(denoiser, "ddim", keep=True).invert(latents, *prompts_of(denoiser, SCENES))
    assert inversion.trajectory is not None
    assert torch.equal(inversion.trajectory[-1], latents)
    assert torch.equal(inversion.trajectory[0], inversion.latents)
    drawn = torch.stack(
        [
            (noisy - step.signal * latents).flatten() / step.sigma
            for step, noisy in zip(inversion.schedule, inversion.trajectory, strict=False)
        ]
    )
    torch.testing.assert_close(torch.corrcoef(drawn), torch.eye(len(drawn)), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.std(dim=1), torch.ones(len(drawn)), rtol=0, atol=0.1)


@torch.no_grad()
def test_it_takes_a_network_row_per_step_and_more_only_where_a_step_draws_no_noise(
    denoiser: Denoiser, latents: torch.Tensor
) -> None:
    conditioning, names = prompts_of(denoiser, SCENES)
    assert inverter(denoiser, "ddim").invert(latents, conditioning, names).network_rows.tolist() == [4, 4]
    assert inverter(denoiser, "ancestral").invert(latents, conditioning, names).network_rows.tolist() == [3 + 13] * 2
    guided = denoiser.encode_prompts([scene.caption for scene in SCENES], guidance_scale=2.0)
    assert inverter(denoiser, "ddim").invert(latents, guided, names).network_rows.tolist() == [8, 8]


@torch.no_grad()
def test_an_image_comes_out_the_same_alone_and_among_others(denoiser: Denoiser, latents: torch.Tensor) -> None:
    conditioning, names = prompts_of(denoiser, SCENES)
    together = inverter(denoiser, "ddpm").invert(latents, conditioning, names)
    alone = inverter(denoiser, "ddpm").invert(latents[1:], conditioning.rows(torch.tensor([1])), names[1:])
    torch.testing.assert_close(together.rows([1]).latents, alone.latents)
    torch.testing.assert_close(together.rows([1]).noise, alone.noise, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_an_image_whose_noise_turns_nan_fails_alone(
    denoiser: Denoiser, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = Denoiser.predict

    def poisoned(self: Denoiser, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        output = healthy(self, latents, timestep, conditioning)
        output[0, 0, 0, 0] = torch.nan
        return output

    monkeypatch.setattr(Denoiser, "predict", poisoned)
    inversion = inverter(denoiser, "ddim").invert(latents, *prompts_of(denoiser, SCENES))
    assert list(inversion.failures) == [0]
    assert inversion.latents[1].isfinite().all()


def test_a_sampler_without_noise_is_refused_with_those_that_draw_some(denoiser: Denoiser) -> None:
    schedule = Schedule.read(denoiser.scheduler, 4)
    with pytest.raises(InputError, match=r"model\.inversion edit_friendly needs .* EulerAncestral.* model\.eta"):
        EditFriendlyInverter(denoiser, schedule, Renoising(1))
