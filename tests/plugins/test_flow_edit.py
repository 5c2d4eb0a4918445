from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import pytest
import torch
from helpers.edits import REQUESTS, UNCHANGED, random_latents
from helpers.stable_diffusion_3 import random_pipeline
from renoise_plugins.flow_edit import FlowEdit

from renoise.api.pipeline import InversionPipeline
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.editing.region import restrict
from renoise.editing.runner import check_needs, run_editor
from renoise.inversion.base import Inversion
from renoise.inversion.noising import Noising
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.models.loading import wrap_pipeline

STEPS = 6
NAMES = ["a.png", "b.png"]


@pytest.fixture(scope="module")
def flow() -> DiffusionModel:
    return wrap_pipeline(random_pipeline())


@pytest.fixture(scope="module")
def inversion(flow: DiffusionModel) -> Inversion:
    pipeline = InversionPipeline(
        flow, flow.scheduler, Schedule.from_scheduler(flow.scheduler, STEPS), inversion=Noising()
    )
    return pipeline.invert_latents(random_latents(), flow.encode_prompts([each.prompt for each in REQUESTS]), NAMES)


class Gaussians:
    """The exact velocity for data N(m, s²), where the prompt's only number is m. Counts its calls."""

    guide = DiffusionModel.guide

    def __init__(self, schedule: Schedule, spread: float) -> None:
        self.sigmas = {step.timestep: step.sigma for step in schedule}
        self.spread = spread
        self.calls = 0

    def predict_branches(
        self, latents: Sequence[torch.Tensor], timestep: float, branches: Sequence[Conditioning]
    ) -> list[torch.Tensor]:
        self.calls += len(branches)
        sigma = self.sigmas[timestep]
        slope = (sigma - (1 - sigma) * self.spread**2) / ((1 - sigma) ** 2 * self.spread**2 + sigma**2)
        means = [branch.prompt_embeds.mean(dim=(1, 2))[:, None, None, None] for branch in branches]
        return [slope * (z - (1 - sigma) * mean) - mean for z, mean in zip(latents, means, strict=True)]


def mean_prompts(*means: float) -> Conditioning:
    return Conditioning(torch.tensor(means, dtype=torch.float32)[:, None, None].expand(-1, 2, 3))


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 6), (0.5, 3)])
def test_between_gaussians_the_change_follows_the_closed_form_whatever_the_noise(
    inversion: Inversion, strength: float, steps: int
) -> None:
    spread, source, target = 0.5, torch.tensor([0.3, -1.0]), torch.tensor([2.0, 1.0])
    network = Gaussians(inversion.schedule, spread)
    editor = FlowEdit(guidance_scale=1, source_guidance_scale=1, strength=strength, num_noises=2)
    conditionings = mean_prompts(*source.tolist()), mean_prompts(*target.tolist())
    model = cast(DiffusionModel, network)
    found = editor.move(model, inversion, *conditionings, ImageRNG(0, NAMES))
    change = torch.zeros(2)
    sigmas = [*(step.sigma for step in inversion.schedule), 0.0][-steps - 1 :]
    for sigma, following in pairwise(sigmas):  # d change / dσ = k change − (1 + (1 − σ) k) (m' − m)
        k = (sigma - (1 - sigma) * spread**2) / ((1 - sigma) ** 2 * spread**2 + sigma**2)
        change = change + (following - sigma) * (k * change - (1 + (1 - sigma) * k) * (target - source))
    torch.testing.assert_close(found, random_latents() + change[:, None, None, None], rtol=1e-4, atol=1e-4)
    assert network.calls == 2 * 2 * steps


def test_one_step_between_points_ends_at_the_target_exactly(flow: DiffusionModel) -> None:
    schedule, image = Schedule.from_scheduler(flow.scheduler, 1), random_latents()
    inversion = Inversion(image, schedule, mean_prompts(0, 0), image=image)
    network = cast(DiffusionModel, Gaussians(schedule, spread=0.0))
    editor = FlowEdit(guidance_scale=1, source_guidance_scale=1, strength=1)
    moved = editor.move(network, inversion, mean_prompts(1, 1), mean_prompts(3, 4), ImageRNG(0, NAMES))
    torch.testing.assert_close(moved - image, torch.tensor([2.0, 3.0])[:, None, None, None].expand_as(image))


@torch.no_grad()
def test_the_images_own_prompt_at_equal_guidance_leaves_the_image(flow: DiffusionModel, inversion: Inversion) -> None:
    images = FlowEdit(guidance_scale=3, source_guidance_scale=3).edit(flow, inversion, UNCHANGED)
    torch.testing.assert_close(images, flow.decode_latents(random_latents()), rtol=0, atol=1e-5)
    changed = FlowEdit(guidance_scale=3, source_guidance_scale=3).edit(flow, inversion, REQUESTS)
    assert (changed - images).abs().flatten(1).amax(dim=1).min() > 1e-3


@torch.no_grad()
def test_an_edit_depends_on_the_images_name_and_the_seed_and_not_on_the_batch(
    flow: DiffusionModel, inversion: Inversion
) -> None:
    together = FlowEdit().edit(flow, inversion, REQUESTS)
    torch.testing.assert_close(
        FlowEdit().edit(flow, inversion.select([1]), REQUESTS[1:])[0], together[1], rtol=0, atol=1e-4
    )
    assert not torch.allclose(FlowEdit(seed=1).edit(flow, inversion, REQUESTS), together, atol=1e-3)


@torch.no_grad()
def test_outside_of_a_mask_the_latents_stay_bit_for_bit(flow: DiffusionModel, inversion: Inversion) -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:8, 4:12] = True
    requests = [replace(REQUESTS[0], mask=mask), REQUESTS[1]]
    source, target = (flow.encode_prompts([str(text) for text in texts]) for texts in (NAMES, ["a cat", "a dog"]))
    moved = FlowEdit().move(flow, restrict(inversion, requests), source, target, ImageRNG(0, NAMES))
    free = FlowEdit().move(flow, inversion, source, target, ImageRNG(0, NAMES))
    changed = (moved != random_latents()).any(dim=1)
    assert changed[0, 2:4, 2:6].all()
    assert changed[0].sum() == 8
    torch.testing.assert_close(moved[1], free[1], rtol=0, atol=1e-5)


def test_other_models_and_samplers_that_draw_noise_are_refused(model: DiffusionModel) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, STEPS)
    with pytest.raises(
        ValueError, match=r"^FlowEdit needs a model of flow matching, and Stable\w+ is none; use Prompt"
    ):
        check_needs(FlowEdit(), model, schedule)
    stochastic = wrap_pipeline(random_pipeline(stochastic=True))
    with pytest.raises(ValueError, match=r"^FlowEdit needs a sampler that draws no noise; set stochastic_sampling to"):
        check_needs(FlowEdit(), stochastic, Schedule.from_scheduler(stochastic.scheduler, STEPS))


def test_an_inversion_without_the_image_is_refused(flow: DiffusionModel, inversion: Inversion) -> None:
    outcomes = run_editor(FlowEdit(), flow, replace(inversion, image=None), REQUESTS)
    assert [str(outcome)[:43] for outcome in outcomes] == ["FlowEdit needs z_0 of the images, and this "] * 2


@pytest.mark.parametrize("option", ["source_guidance_scale", "num_noises"])
def test_an_option_below_1_is_an_error(option: str) -> None:
    with pytest.raises(ValueError, match=rf"^FlowEdit: {option} must be 1 or more, got 0$"):
        FlowEdit(**{option: 0})  # type: ignore[arg-type]
