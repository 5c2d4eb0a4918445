from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler
from helpers.inversions import BoundInverter

from benchmarks.shared.scenes import UNSEEN_SEED, prompts_of
from renoise.core.schedule import Schedule
from renoise.inversion.edit_friendly import EditFriendlyInversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
SAMPLERS = {"ddim": (DDIMScheduler, 1.0), "ddpm": (DDPMScheduler, 0.0)}
SAMPLERS |= {"lcm": (LCMScheduler, 0.0), "ancestral": (EulerAncestralDiscreteScheduler, 0.0)}


def inverter(model: DiffusionModel, name: str, keep: bool = False, steps: int = 4) -> BoundInverter:
    sampler, eta = SAMPLERS[name]
    scheduler = sampler.from_config(model.pipeline.scheduler.config, timestep_spacing="trailing")
    schedule = Schedule.from_scheduler(scheduler, steps, eta)
    return BoundInverter(EditFriendlyInversion(12), model, schedule, keep_trajectory=keep)


@pytest.mark.parametrize(("name", "steps"), [("ddim", 4), ("ddpm", 20), ("lcm", 20), ("ancestral", 20)])
@torch.no_grad()
def test_sampling_with_the_noise_reconstructs_the_image(
    model: DiffusionModel, latents: torch.Tensor, name: str, steps: int
) -> None:
    """Exactly, except for a last step without noise, which has to be solved. A shorter last step is solved better."""
    inversion = inverter(model, name, steps=steps).invert(latents, *prompts_of(model, SCENES))
    assert (sample(model, inversion) - latents).square().mean() < 1e-4
    assert not inversion.failures


@torch.no_grad()
def test_noisy_latents_are_the_images_with_independent_noise(model: DiffusionModel, latents: torch.Tensor) -> None:
    inversion = inverter(model, "ddim", keep=True).invert(latents, *prompts_of(model, SCENES))
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
def test_it_takes_one_function_evaluation_per_step_and_more_only_where_a_step_draws_no_noise(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    conditioning, names = prompts_of(model, SCENES)
    assert inverter(model, "ddim").invert(latents, conditioning, names).nfe.tolist() == [4, 4]
    assert inverter(model, "ancestral").invert(latents, conditioning, names).nfe.tolist() == [3 + 13] * 2
    guided = model.encode_prompts([scene.caption for scene in SCENES], guidance_scale=2.0)
    assert inverter(model, "ddim").invert(latents, guided, names).nfe.tolist() == [8, 8]


@torch.no_grad()
def test_the_result_for_an_image_does_not_depend_on_the_batch(model: DiffusionModel, latents: torch.Tensor) -> None:
    conditioning, names = prompts_of(model, SCENES)
    together = inverter(model, "ddpm").invert(latents, conditioning, names)
    alone = inverter(model, "ddpm").invert(latents[1:], conditioning.select(torch.tensor([1])), names[1:])
    torch.testing.assert_close(together.select([1]).latents, alone.latents)
    torch.testing.assert_close(together.select([1]).noise, alone.noise, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_an_image_whose_noise_turns_nan_fails_alone(
    model: DiffusionModel, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = DiffusionModel.predict

    def poisoned(
        self: DiffusionModel, latents: torch.Tensor, timestep: float, conditioning: Conditioning
    ) -> torch.Tensor:
        output = healthy(self, latents, timestep, conditioning)
        output[0, 0, 0, 0] = torch.nan
        return output

    monkeypatch.setattr(DiffusionModel, "predict", poisoned)
    inversion = inverter(model, "ddim").invert(latents, *prompts_of(model, SCENES))
    assert list(inversion.failures) == [0]
    assert inversion.noise is not None
    for tensors in (inversion.latents[None], inversion.noise):
        assert tensors[:, 0].isnan().all()
        assert tensors[:, 1].isfinite().all()


def test_a_sampler_without_noise_is_refused_with_the_names_of_stochastic_ones(model: DiffusionModel) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, 4)
    with pytest.raises(ValueError, match=r"^EditFriendlyInversion needs .* EulerAncestral.* eta above 0"):
        EditFriendlyInversion().check(model, schedule, guidance_scale=1.0)
