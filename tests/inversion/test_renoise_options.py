"""Options of ReNoise that the paper does not have: warm starts, Anderson acceleration, budgets, posterior steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from helpers.inversions import BoundInverter

from benchmarks.shared.presets import load, read_tiny
from benchmarks.shared.scenes import UNSEEN_SEED, encode, images_of, invert_scenes, prompts_of
from benchmarks.solvers import errors, methods
from renoise.core.anderson import Anderson
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.schedule import Schedule
from renoise.errors import InputWarning
from renoise.inversion.base import Inversion
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.outputs.manifest import Manifest
from tiny_models.scenes import random_scenes

SCENES = random_scenes(3, UNSEEN_SEED)
LOSSES = EditRegularization(lambda_pair=10, lambda_patch_kl=0.055)


@pytest.fixture(scope="module")
def latents(model: DiffusionModel) -> torch.Tensor:
    """Of small pictures."""
    with torch.no_grad():
        return model.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


def schedule(model: DiffusionModel, steps: int = 4, sampler: type = EulerAncestralDiscreteScheduler) -> Schedule:
    return Schedule.from_scheduler(sampler.from_config(model.scheduler.config, timestep_spacing="trailing"), steps)


def invert(
    method: ReNoise, model: DiffusionModel, latents: torch.Tensor, steps: Schedule, guidance_scale: float = 1.0
) -> Inversion:
    conditioning = model.encode_prompts([scene.caption for scene in SCENES], guidance_scale)
    return BoundInverter(method, model, steps).invert(latents, conditioning, prompts_of(model, SCENES)[1])


@pytest.mark.parametrize(
    ("preset", "steps", "calls", "share"),
    [
        ("sd14", 10, 10, 1 / 8),
        ("sd14", 10, 20, 1 / 5),
        ("sd14", 10, 50, 1 / 20),
        ("sd14", 50, 50, 1 / 15),
        ("sdxl_turbo", 4, 12, 1 / 3),
        ("sdxl_turbo", 4, 20, 1 / 2.5),
        ("lcm_lora", 4, 12, 1 / 2),
        ("lcm_lora", 4, 20, 1 / 3),
    ],
)
def test_at_equal_calls_it_leaves_a_fraction_of_plain_renoisings_error_for_every_image(
    preset: str, steps: int, calls: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    pipeline = load({**read_tiny(preset), "num_inference_steps": steps})
    compared = methods(steps, calls)
    plain, budget = (errors(pipeline, SCENES[:2], compared[name]) for name in ("plain", "budget"))
    assert float(budget.mean()) <= share * float(plain.mean())
    assert float((budget / plain).max()) <= 1.05


@pytest.mark.parametrize(
    ("options", "guidance_scale", "budget"),
    [
        ({}, 1.0, 13),
        ({"warm_start": True, "solver": Anderson(2)}, 1.0, 13),
        ({"noise_correction": NoiseCorrection("override")}, 1.0, 13),
        ({"regularization": LOSSES}, 1.0, 13),
        ({"stochastic_steps": "posterior"}, 1.0, 9),
        ({"stochastic_iterations": 0, "noise_correction": NoiseCorrection("override")}, 1.0, 20),
        ({"warm_start": True, "noise_correction": NoiseCorrection()}, 2.0, 26),
    ],
)
@torch.no_grad()
def test_every_image_takes_its_whole_budget_and_not_one_call_more(
    model: DiffusionModel, latents: torch.Tensor, options: dict[str, Any], guidance_scale: float, budget: int
) -> None:
    method = ReNoise(max_nfe=budget, **options)
    inversion = invert(method, model, latents, schedule(model), guidance_scale)
    assert inversion.nfe.tolist() == [budget] * len(SCENES)


@torch.no_grad()
def test_a_tolerance_leaves_the_rest_of_a_budget_unspent(model: DiffusionModel) -> None:
    method = ReNoise(warm_start=True, solver=Anderson(), tolerance=1e-2, max_nfe=100)
    inversion = invert(method, model, encode(model, SCENES), schedule(model, 10, DDIMScheduler))
    assert inversion.converged is not None
    assert bool(inversion.converged.all())
    assert int(inversion.nfe.max()) < 60
    assert len(set(inversion.nfe.tolist())) > 1


@pytest.mark.parametrize("preset", ["sdxl_turbo_fast", "lcm_lora_fast"])
@torch.no_grad()
def test_with_posterior_steps_latents_and_noise_look_like_noise_and_the_image_is_reconstructed(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    pipeline = load(read_tiny(preset))
    inversion = invert_scenes(pipeline, SCENES, ReNoise(stochastic_steps="posterior", solver=Anderson(), max_nfe=10))
    assert inversion.noise is not None
    assert float((inversion.latents / pipeline.schedule.init_noise_sigma).std()) == pytest.approx(1, abs=0.05)
    assert float(inversion.noise[:-1].std()) == pytest.approx(1.1, abs=0.15)
    assert float((sample(pipeline.model, inversion) - encode(pipeline.model, SCENES)).square().mean()) < 5e-3
    assert inversion.nfe.tolist() == [10] * len(SCENES)


@torch.no_grad()
def test_a_lower_temperature_narrows_the_latents_and_leaves_the_reconstruction_as_exact(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    steps, spreads, errors = schedule(model), [], []
    for temperature in (0.0, 0.5, 1.0):
        inversion = invert(ReNoise(5, stochastic_steps="posterior", temperature=temperature), model, latents, steps)
        spreads.append(float(inversion.latents.std()) / steps.init_noise_sigma)
        errors.append(float((sample(model, inversion) - latents).square().mean()))
    assert spreads[0] < 0.2
    assert spreads[1] == pytest.approx(0.5, abs=0.05)
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-3), "only the cleanest step leaves an error"


@pytest.mark.parametrize("steps", [5, 20])
@torch.no_grad()
def test_with_ddim_and_eta_the_cleanest_step_is_solved_and_its_noise_made_exact(
    model: DiffusionModel, latents: torch.Tensor, steps: int
) -> None:
    eta = Schedule.from_scheduler(DDIMScheduler.from_config(model.scheduler.config, clip_sample=False), steps, 1.0)
    assert eta.steps[-1].rho != 0
    inversion = invert(ReNoise(3, stochastic_steps="posterior"), model, latents, eta)
    assert inversion.nfe.tolist() == [steps - 1 + 4 + 1] * len(SCENES)
    assert float((sample(model, inversion) - latents).square().mean()) < 1e-6, "every step has a noise that is exact"
    assert float(inversion.latents.std()) == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_iterations_can_differ_where_noise_is_drawn(model: DiffusionModel, latents: torch.Tensor) -> None:
    method = ReNoise(5, stochastic_iterations=0, noise_correction=NoiseCorrection("override"))
    inversion = invert(method, model, latents, schedule(model))
    assert inversion.nfe.tolist() == [3 * 1 + 6 + 3] * len(SCENES)
    everywhere = invert(ReNoise(0, noise_correction=NoiseCorrection("override")), model, latents, schedule(model))
    errors = [float((sample(model, each) - latents).square().mean()) for each in (inversion, everywhere)]
    assert errors[0] < 0.9 * errors[1]


@torch.no_grad()
def test_the_result_for_an_image_does_not_depend_on_the_batch(model: DiffusionModel, latents: torch.Tensor) -> None:
    method = ReNoise(warm_start=True, solver=Anderson(), max_nfe=40)
    bound = BoundInverter(method, model, schedule(model, 4, DDIMScheduler))
    together = bound.invert(latents, *prompts_of(model, SCENES))
    alone = bound.invert(latents[2:3], *prompts_of(model, SCENES[2:3]))
    torch.testing.assert_close(together.latents[2:3], alone.latents, rtol=0, atol=1e-3)
    assert together.fell_back is not None
    assert together.select([2]).fell_back is not None


@torch.no_grad()
def test_a_tolerance_beyond_the_precision_is_raised_with_one_warning(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    steps, beyond = schedule(model, 3, DDIMScheduler), ReNoise(2, tolerance=1e-9)
    with pytest.warns(InputWarning, match=r"tolerance 1e-09 is beyond the precision of torch\.float32: .* 2\.4e-07"):
        inversion = invert(beyond, model, latents, steps)
    reachable = invert(ReNoise(2, tolerance=2 * torch.finfo(torch.float32).eps), model, latents, steps)
    assert inversion.nfe.tolist() == reachable.nfe.tolist()
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.warns(InputWarning, match=r"precision of torch\.bfloat16"):
            coarse = invert(ReNoise(2, tolerance=1e-4), model, latents, steps)
        reachable = invert(ReNoise(2, tolerance=torch.finfo(torch.bfloat16).eps * 1.001), model, latents, steps)
    assert coarse.nfe.tolist() == reachable.nfe.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        invert(beyond, model, latents[:, :, :8, :8], steps)  # another batch does not warn again
        invert(ReNoise(1, tolerance=1e-4), model, latents, steps)


BAD: list[tuple[Callable[[], ReNoise], str]] = [
    (lambda: ReNoise(max_nfe=0), r"^max_nfe must be 1 or more, or null, got 0$"),
    (lambda: ReNoise(stochastic_iterations=-1), r"^stochastic_iterations must be 0 or more, or null, got -1$"),
    (lambda: ReNoise(stochastic_steps="both"), r"^stochastic_steps must be solve or posterior, got 'both'$"),
    (
        lambda: ReNoise(stochastic_steps="posterior", noise_correction=NoiseCorrection()),
        r"^noise_correction and stochastic_iterations must be null with stochastic_steps posterior",
    ),
    (lambda: ReNoise(stochastic_steps="posterior", temperature=1.5), r"^temperature must be from 0 to 1, got 1\.5$"),
    (lambda: ReNoise(temperature=0.5), r"^temperature needs stochastic_steps posterior, got 0\.5 with solve$"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_options_that_make_no_sense_are_refused(make: Callable[[], ReNoise], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "guidance_scale", "least"),
    [
        (ReNoise(max_nfe=3), 1.0, 4),
        (ReNoise(max_nfe=7), 2.0, 8),
        (ReNoise(max_nfe=6, noise_correction=NoiseCorrection()), 1.0, 7),
        (ReNoise(max_nfe=7, regularization=LOSSES), 1.0, 8),
        (ReNoise(max_nfe=3, stochastic_steps="posterior"), 1.0, 4),
    ],
)
def test_a_budget_below_one_call_a_step_is_refused_before_any_image(
    model: DiffusionModel, method: ReNoise, guidance_scale: float, least: int
) -> None:
    with pytest.raises(ValueError, match=rf"^max_nfe must be at least {least} for 4 steps with these options, got"):
        method.check(model, schedule(model), guidance_scale)
    ReNoise(**{**method.init_args, "max_nfe": least}).check(model, schedule(model), guidance_scale)


@pytest.mark.parametrize("name", ["stochastic_steps posterior", "stochastic_iterations"])
def test_what_needs_drawn_noise_is_refused_with_a_sampler_that_draws_none(model: DiffusionModel, name: str) -> None:
    option: dict[str, Any] = {"stochastic_iterations": 2} if "iterations" in name else {"stochastic_steps": "posterior"}
    with pytest.raises(ValueError, match=rf"^{name} needs a sampler that draws noise"):
        ReNoise(**option).check(model, schedule(model, 4, DDIMScheduler), 1.0)


def test_solver_and_budget_are_options_of_the_command_line_and_rows_say_who_fell_back(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "a.png")
    options = ["--model.inversion.warm_start=true", "--model.inversion.max_nfe=9"]
    solver = ["--model.inversion.solver=Anderson", "--model.inversion.solver.memory=2"]
    run = predict(root, tmp_path / "out", *options, *solver, "--model.inversion.iterations=null")
    assert run.status == 0, run.err
    (row,) = Manifest(tmp_path / "out").read()
    assert row["nfe"] == 9
    assert row["fell_back"] is False
