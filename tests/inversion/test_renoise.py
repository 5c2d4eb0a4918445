from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler, StableDiffusionPipeline
from helpers.inversions import BoundInverter

from benchmarks.inversion import accuracy
from benchmarks.shared.evaluation import RoundTrip
from benchmarks.shared.scenes import UNSEEN_SEED, images_of, prompts_of
from renoise.core.anderson import Anderson
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.models.loading import load_model
from tiny_models.scenes import random_scenes

SCENES = random_scenes(3, UNSEEN_SEED)


@pytest.fixture(scope="module")
def latents(model: DiffusionModel) -> torch.Tensor:
    """Of small pictures."""
    with torch.no_grad():
        return model.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


def inverter(model: DiffusionModel, steps: int, iterations: int, tolerance: float | None = None) -> BoundInverter:
    schedule = Schedule.from_scheduler(model.scheduler, steps)
    return BoundInverter(ReNoise(iterations, tolerance=tolerance), model, schedule)


TABLE_1 = AveragingWeights(below=[0.5, 0.5], above=[1.0])


def measured(tiny_sd: Path, steps: int, iterations: int, weights: AveragingWeights | None = None) -> RoundTrip:
    return accuracy(str(tiny_sd), steps, ReNoise(iterations, weights), images=1)


def test_at_10_steps_more_renoising_iterations_reconstruct_better(tiny_sd: Path) -> None:
    found = [measured(tiny_sd, 10, iterations) for iterations in (0, 1, 4, 9)]
    errors, psnrs = [one.latent_mse for one in found], [one.psnr for one in found]
    assert errors == sorted(errors, reverse=True)
    assert psnrs == sorted(psnrs)
    assert errors[1] <= errors[0] / 4
    assert errors[2] <= errors[0] / 20
    assert errors[3] <= errors[0] / 80
    assert [one.nfe for one in found] == [10, 20, 50, 100]


def test_at_50_steps_table_1_reaches_the_autoencoders_psnr_and_four_iterations_the_latents(tiny_sd: Path) -> None:
    plain = measured(tiny_sd, 50, 0)
    table_1 = measured(tiny_sd, 50, 1, TABLE_1)
    four = measured(tiny_sd, 50, 4)
    assert table_1.latent_mse <= plain.latent_mse / 4
    assert table_1.psnr >= table_1.psnr_vae - 0.15
    assert four.latent_mse <= plain.latent_mse / 150
    assert plain.psnr < table_1.psnr
    assert [one.nfe for one in (plain, table_1, four)] == [50, 100, 250]


@torch.no_grad()
def test_a_converged_inversion_is_a_fixed_point(tiny_sd: Path, latents: torch.Tensor) -> None:
    model = load_model(str(tiny_sd)).double()
    schedule, image = Schedule.from_scheduler(model.scheduler, 10), latents[:1].double()
    exact = BoundInverter(ReNoise(warm_start=True, solver=Anderson(), max_nfe=120), model, schedule)
    inversion = exact.invert(image, *prompts_of(model, SCENES[:1]))
    assert float((sample(model, inversion) - image).square().mean()) <= 1e-10


@torch.no_grad()
def test_the_result_for_an_image_does_not_depend_on_the_batch(model: DiffusionModel, latents: torch.Tensor) -> None:
    one_by_one = inverter(model, 4, 3, tolerance=1e-2)
    together = one_by_one.invert(latents, *prompts_of(model, SCENES))
    alone = one_by_one.invert(latents[2:3], *prompts_of(model, SCENES[2:3]))
    torch.testing.assert_close(together.latents[2:3], alone.latents, rtol=0, atol=1e-4)
    assert together.nfe[2] == alone.nfe[0]


@torch.no_grad()
def test_with_a_tolerance_each_image_stops_by_itself(model: DiffusionModel, latents: torch.Tensor) -> None:
    free = inverter(model, 4, 9).invert(latents, *prompts_of(model, SCENES))
    stopped = inverter(model, 4, 9, tolerance=3e-2).invert(latents, *prompts_of(model, SCENES))
    assert (free.nfe == 40).all()
    assert (stopped.nfe < 40).all()
    assert len(set(stopped.nfe.tolist())) > 1


def test_the_residual_of_every_step_is_kept_and_the_largest_is_that_of_the_image(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    inversion = inverter(model, 4, 1).invert(latents, *prompts_of(model, SCENES))
    assert inversion.step_residuals is not None
    assert inversion.step_residuals.shape == (4, len(SCENES))
    assert torch.equal(inversion.step_residuals.amax(dim=0), inversion.residual)
    assert torch.equal(inversion.select([2, 1]).step_residuals, inversion.step_residuals[:, [2, 1]])


@torch.no_grad()
def test_sampling_gives_the_same_latents_as_diffusers_own_pipeline(
    tiny_sd: Path, model: DiffusionModel, latents: torch.Tensor
) -> None:
    inversion = inverter(model, 5, 1).invert(latents, *prompts_of(model, SCENES))
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    captions = [scene.caption for scene in SCENES]
    for guidance_scale in (1.0, 3.0):
        conditioning = model.encode_prompts(captions, guidance_scale)
        expected = pipeline(
            captions,
            latents=inversion.latents,
            num_inference_steps=5,
            guidance_scale=guidance_scale,
            output_type="latent",
        ).images
        torch.testing.assert_close(sample(model, inversion, conditioning), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_an_inversion_with_guidance_needs_the_same_guidance_to_reconstruct(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    few, captions = latents[:2], [scene.caption for scene in SCENES[:2]]
    converged = inverter(model, 10, 12).invert(few, model.encode_prompts(captions, 2.0), ["0", "1"])
    assert float((sample(model, converged) - few).square().mean()) < 1e-4
    assert (converged.nfe == 2 * 10 * 13).all()
    unguided = model.encode_prompts(captions)
    assert float((sample(model, converged, unguided) - few).square().mean()) > 1e-2


@torch.no_grad()
def test_the_noise_of_an_image_does_not_depend_on_the_batch(model: DiffusionModel, latents: torch.Tensor) -> None:
    schedule = Schedule.from_scheduler(LCMScheduler.from_config(model.scheduler.config), 4)
    together = BoundInverter(ReNoise(2), model, schedule, seed=5)
    inversion = together.invert(latents[:2], *prompts_of(model, SCENES[:2]))
    assert inversion.noise is not None
    assert inversion.noise.shape == (4, 2, *latents.shape[1:])
    assert abs(float(inversion.noise.std()) - 1) < 0.05
    alone = together.invert(latents[1:2], prompts_of(model, SCENES[1:2])[0], ["1"])
    assert alone.noise is not None
    torch.testing.assert_close(alone.noise[:, 0], inversion.noise[:, 1])


class Poisoned:
    """Turns the prediction for one image into NaN or infinity from one timestep on."""

    def __init__(self, model: DiffusionModel, marker: torch.Tensor, timestep: float, value: float) -> None:
        self.predict_noise, self.marker, self.timestep, self.value = model.predict, marker, timestep, value

    def __call__(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        prediction = self.predict_noise(latents, timestep, conditioning)
        if timestep >= self.timestep:
            mine = (conditioning.prompt_embeds == self.marker).flatten(1).all(dim=1)
            prediction[mine] = self.value
        return prediction


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@torch.no_grad()
def test_latents_that_turn_nan_fail_alone_and_name_the_step(
    model: DiffusionModel, latents: torch.Tensor, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioning, names = prompts_of(model, SCENES[:3])
    method = inverter(model, 4, 1)
    healthy = method.invert(latents[:3], conditioning, names)
    poisoned = Poisoned(model, conditioning.prompt_embeds[1], 500, value)
    monkeypatch.setattr(model, "predict", poisoned)
    inversion = method.invert(latents[:3], conditioning, names)
    assert list(inversion.failures) == [1]
    assert "inversion step 3 of 4 (timestep 501)" in inversion.failures[1]
    for neighbor in (0, 2):
        torch.testing.assert_close(inversion.latents[neighbor], healthy.latents[neighbor], rtol=0, atol=1e-5)
    assert inversion.latents[1].isnan().all()
    assert inversion.select([1, 2]).failures == {0: inversion.failures[1]}


@pytest.mark.parametrize(
    "method",
    [ReNoise(1, stochastic_steps="posterior"), ReNoise(1, noise_correction=NoiseCorrection("override"))],
    ids=["posterior", "override"],
)
@torch.no_grad()
def test_noise_that_turns_nan_while_the_latents_do_not_fails_alone_too(
    model: DiffusionModel, latents: torch.Tensor, method: ReNoise, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioning, names = prompts_of(model, SCENES[:2])
    steps = Schedule.from_scheduler(DDIMScheduler.from_config(model.scheduler.config), 4, eta=1.0)
    calls = 0
    predict = model.predict

    def poisoned(inputs: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        nonlocal calls
        calls += timestep == 751
        prediction = predict(inputs, timestep, conditioning)
        if timestep == 751 and calls == (1 if method.draws_latents else 3):  # the call for the noise
            prediction[1] = torch.nan
        return prediction

    monkeypatch.setattr(model, "predict", poisoned)
    inversion = method.invert(model, steps, latents[:2], conditioning, ImageRNG(0, names), keep_trajectory=True)
    assert list(inversion.failures) == [1]
    assert "inversion step 4 of 4 (timestep 751)" in inversion.failures[1]
    assert inversion.noise is not None
    assert inversion.trajectory is not None
    for tensors in (inversion.latents[None], inversion.noise, inversion.trajectory):
        assert tensors[:, 0].isfinite().all()
        assert tensors[:, 1].isnan().all()


TURBO_WEIGHTS = AveragingWeights(below=[0.25] * 4, above=[1 / 3] * 3, max_iterations_below=3)
PAIR, PAPER_LOSSES = EditRegularization(lambda_pair=10), EditRegularization(lambda_pair=10, lambda_patch_kl=0.055)
OPTIMIZE, OVERRIDE = NoiseCorrection("optimize"), NoiseCorrection("override")


def turbo(
    model: DiffusionModel,
    losses: EditRegularization | None = PAPER_LOSSES,
    correction: NoiseCorrection | None = OPTIMIZE,
) -> BoundInverter:
    """The paper's settings for SDXL Turbo (Table 1)."""
    scheduler = EulerAncestralDiscreteScheduler.from_config(model.scheduler.config, timestep_spacing="trailing")
    method = ReNoise(9, TURBO_WEIGHTS, regularization=losses, noise_correction=correction)
    return BoundInverter(method, model, Schedule.from_scheduler(scheduler, 4))


@pytest.mark.parametrize(
    ("losses", "correction", "guidance_scale", "nfe"),
    [
        # 10 calls at each of the three levels with t >= 250, 4 at the one below: the last estimate that counts
        (None, None, 1.0, 34),
        # a target at each level, and a call at each of the three that draw noise
        (PAPER_LOSSES, OPTIMIZE, 1.0, 34 + 4 + 3),
        (PAPER_LOSSES, OVERRIDE, 1.0, 41),
        (PAIR, OPTIMIZE, 1.0, 37),
        (None, OPTIMIZE, 1.0, 37),
        (PAPER_LOSSES, None, 1.0, 38),
        (PAPER_LOSSES, OPTIMIZE, 2.0, 82),
    ],
)
@torch.no_grad()
def test_nfe_counts_what_the_network_really_evaluates(
    model: DiffusionModel,
    latents: torch.Tensor,
    losses: EditRegularization | None,
    correction: NoiseCorrection | None,
    guidance_scale: float,
    nfe: int,
) -> None:
    taken: list[int] = []
    hook = model.network.register_forward_pre_hook(lambda _, arguments: taken.append(len(arguments[0])))
    conditioning = model.encode_prompts([scene.caption for scene in SCENES[:2]], guidance_scale)
    inversion = turbo(model, losses, correction).invert(latents[:2], conditioning, ["0", "1"])
    hook.remove()
    assert inversion.nfe.tolist() == [nfe, nfe]
    assert sum(taken) == 2 * nfe


@torch.no_grad()
def test_with_regularization_and_noise_correction_it_does_not_depend_on_the_batch_either(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    conditioning, names = prompts_of(model, SCENES[:2])
    method = turbo(model, PAPER_LOSSES, OVERRIDE)
    together = method.invert(latents[:2], conditioning, names)
    assert together.noise is not None
    alone = method.invert(latents[1:2], conditioning.select(torch.tensor([1])), names[1:])
    assert alone.noise is not None
    difference = (alone.latents[0] - together.latents[1]) / method.schedule.init_noise_sigma
    assert float(difference.abs().max()) <= 1e-4
    torch.testing.assert_close(alone.noise[:, 0], together.noise[:, 1], rtol=0, atol=1e-4)
    assert alone.nfe[0] == together.nfe[1]


@pytest.mark.parametrize("losses", [None, PAPER_LOSSES], ids=["plain", "regularized"])
@torch.no_grad()
def test_override_makes_the_sampler_retrace_the_inversion_up_to_its_last_step(
    model: DiffusionModel, losses: EditRegularization | None
) -> None:
    conditioning, names = prompts_of(model, SCENES[:2])
    latents = model.encode_images(images_of(SCENES[:2]))
    errors, deviations = {}, {}
    for method, correction in (("none", None), ("override", OVERRIDE)):
        inverter = replace(turbo(model, losses, correction), keep_trajectory=True)
        inversion = inverter.invert(latents, conditioning, names)
        assert inversion.noise is not None
        assert inversion.trajectory is not None
        errors[method] = float((sample(model, inversion) - latents).square().mean())
        current, deviations[method] = inversion.latents, []
        for step, noise, passed in zip(inversion.schedule, inversion.noise, inversion.trajectory[1:], strict=True):
            prediction = model.predict(step.input_scale * current, step.timestep, conditioning)
            current = step.denoise(current, prediction, noise)
            deviations[method].append(float((current - passed).abs().max()))
    assert max(deviations["override"][:-1]) < 1e-3
    assert min(deviations["none"][:-1]) > 1e-2
    assert deviations["override"][-1] > 1e-2  # the last step draws no noise that could make it exact
    assert errors["override"] < errors["none"]


@torch.no_grad()
def test_optimize_moves_the_noise_part_of_the_way_to_that_of_override(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    conditioning, names = prompts_of(model, SCENES[:2])
    corrections = (None, NoiseCorrection("optimize", strength=0.5, steps=2), OVERRIDE)
    inversions = [turbo(model, PAIR, each).invert(latents[:2], conditioning, names) for each in corrections]
    drawn, moved, exact = (inversion.noise for inversion in inversions)
    assert drawn is not None
    assert moved is not None
    assert exact is not None
    for inversion in inversions[1:]:
        torch.testing.assert_close(inversion.latents, inversions[0].latents, rtol=0, atol=0)
    torch.testing.assert_close(moved, 0.25 * drawn + 0.75 * exact, rtol=0, atol=1e-5)
    assert torch.equal(exact[-1], drawn[-1])
    assert not torch.equal(exact[:-1], drawn[:-1])
