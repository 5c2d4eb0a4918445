"""EDICT, BDIA and O-BELM: their samplers are those of the papers, and their inverses undo them exactly."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from helpers.edits import REQUESTS, UNCHANGED, invert, random_latents
from helpers.random_network import RandomNetwork, prompts

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.editing.discovery import load_editors
from renoise.editing.runner import check_inversion, check_needs, run_editor
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.bdia import BDIA
from renoise.inversion.direct import DirectInversion
from renoise.inversion.edict import EDICT
from renoise.inversion.exact import ExactInversion, Pair
from renoise.inversion.null_text import NullTextInversion
from renoise.inversion.o_belm import OBELM
from renoise.inversion.sampling import sample, walk
from renoise.models.base import DiffusionModel

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DDIM: dict[str, Any] = {**BETAS, "clip_sample": False, "set_alpha_to_one": False}
SCHEDULERS = {
    "DDIM leading": DDIMScheduler(**DDIM, steps_offset=1),
    "DDIM trailing": DDIMScheduler(**DDIM, timestep_spacing="trailing"),
    "DDIM v": DDIMScheduler(**DDIM, steps_offset=1, prediction_type="v_prediction"),
    "DDIM to 1": DDIMScheduler(**DDIM | {"set_alpha_to_one": True}),
    "Euler": EulerDiscreteScheduler(**BETAS),
}
METHODS = [EDICT(), EDICT(mixing=0.97), BDIA(), BDIA(gamma=0.95), OBELM()]
IMAGES = random_latents().double()
STEPS = 50

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{type(method).__name__}")
every_kind = pytest.mark.parametrize("method", [EDICT(), BDIA(0.95), OBELM()], ids=lambda method: type(method).__name__)


def inverted(
    method: ExactInversion,
    network: RandomNetwork,
    scheduler: Any = SCHEDULERS["DDIM leading"],
    steps: int = STEPS,
    latents: torch.Tensor = IMAGES,
    keep_trajectory: bool = False,
) -> Inversion:
    schedule = Schedule.from_scheduler(scheduler, steps)
    method.check(network.model, schedule, 1.0)
    conditioning = prompts(*(0.1 * index for index in range(len(latents))))
    return method.invert(network.model, schedule, latents, conditioning, ImageRNG(0, ["a"]), keep_trajectory)


@every_method
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)])
def test_the_round_trip_is_exact_whatever_the_network_predicts(
    method: ExactInversion, scheduler: Any, dtype: torch.dtype, bound: float
) -> None:
    network = RandomNetwork(dtype)
    images = IMAGES if dtype == torch.float64 else IMAGES.float()
    inversion = inverted(method, network, scheduler, latents=images)
    assert inversion.latents.isfinite().all()
    assert (inversion.latents - images).abs().max() > 0.1
    assert (sample(network.model, inversion) - images).abs().max() <= bound


def alphas(scheduler: Any, steps: int) -> tuple[list[int], list[float]]:
    """Returns the timesteps of a DDIM scheduler, and ᾱ of all levels, noisiest first, with the clean one."""
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    return timesteps, [*scheduler.alphas_cumprod[timesteps].tolist(), float(scheduler.final_alpha_cumprod)]


def edict_of_the_paper(network: RandomNetwork, inversion: Inversion, p: float) -> torch.Tensor:
    """Equations 14 of EDICT, in a_t and b_t of its equation 6, with x and y changing places at every step."""
    timesteps, abar = alphas(SCHEDULERS["DDIM leading"], 10)
    assert inversion.companion is not None
    state = {"x": inversion.latents, "y": inversion.companion[0]}
    for t, (now, then) in enumerate(pairwise(abar)):
        a = math.sqrt(then / now)
        b = math.sqrt(1 - then) - math.sqrt(then * (1 - now) / now)
        for mine, other in (("x", "y"), ("y", "x")) if t % 2 == 0 else (("y", "x"), ("x", "y")):
            state[mine] = a * state[mine] + b * network.predict(state[other], timesteps[t], inversion.conditioning)
        state["x"] = p * state["x"] + (1 - p) * state["y"]
        state["y"] = p * state["y"] + (1 - p) * state["x"]
    return state["x"]


def bdia_of_the_paper(network: RandomNetwork, inversion: Inversion, gamma: float) -> torch.Tensor:
    """z_{i-1} = z_{i+1} − (1 − γ)(z_{i+1} − z_i) − γ Δ(t_i → t_{i+1}) + Δ(t_i → t_{i-1}), with DDIM's Δ."""
    timesteps, abar = alphas(SCHEDULERS["DDIM leading"], 10)
    assert inversion.companion is not None
    before, z = inversion.latents, inversion.companion[0]
    for i in range(1, 10):
        epsilon = network.predict(z, timesteps[i], inversion.conditioning)
        estimate = (z - math.sqrt(1 - abar[i]) * epsilon) / math.sqrt(abar[i])  # of z_0
        there, back = (math.sqrt(abar[j]) * estimate + math.sqrt(1 - abar[j]) * epsilon - z for j in (i + 1, i - 1))
        before, z = z, before - (1 - gamma) * (before - z) - gamma * back + there
    return z


def o_belm_of_the_paper(network: RandomNetwork, inversion: Inversion) -> torch.Tensor:
    """x̄_{i-1} = h_i²/h_{i+1}² x̄_{i+1} + (h_{i+1}² − h_i²)/h_{i+1}² x̄_i − h_i (h_i + h_{i+1})/h_{i+1} ε(x_i)."""
    timesteps, abar = alphas(SCHEDULERS["DDIM leading"], 10)
    assert inversion.companion is not None
    alpha = [math.sqrt(value) for value in abar]
    h = [math.sqrt(1 - a**2) / a - math.sqrt(1 - b**2) / b for a, b in pairwise(alpha)]
    before, z = inversion.latents / alpha[0], inversion.companion[0] / alpha[1]
    for i in range(1, 10):
        epsilon = network.predict(alpha[i] * z, timesteps[i], inversion.conditioning)
        now, last = h[i], h[i - 1]
        following = now**2 / last**2 * before + (last**2 - now**2) / last**2 * z - now * (now + last) / last * epsilon
        before, z = z, following
    return alpha[-1] * z


@pytest.mark.parametrize(
    ("method", "of_the_paper"),
    [
        (EDICT(), lambda *inputs: edict_of_the_paper(*inputs, p=0.93)),
        (EDICT(0.8), lambda *inputs: edict_of_the_paper(*inputs, p=0.8)),
        (BDIA(), lambda *inputs: bdia_of_the_paper(*inputs, gamma=1.0)),
        (BDIA(0.9), lambda *inputs: bdia_of_the_paper(*inputs, gamma=0.9)),
        (OBELM(), o_belm_of_the_paper),
    ],
)
def test_the_sampler_is_that_of_the_paper(method: ExactInversion, of_the_paper: Any) -> None:
    network = RandomNetwork()
    inversion = inverted(method, network, steps=10)
    inversion.conditioning = prompts(0.7, -0.7)  # under other prompts it does not lead back to the images
    sampled = sample(network.model, inversion)
    torch.testing.assert_close(sampled, of_the_paper(network, inversion), rtol=0, atol=5e-5)  # float32 schedulers
    assert (sampled - IMAGES).abs().max() > 0.02


def test_without_mixing_or_correction_the_network_alone_decides() -> None:
    steps = Schedule.from_scheduler(SCHEDULERS["DDIM leading"], 4).steps
    latents, other = IMAGES, IMAGES.flip(0)
    x, y = EDICT(mixing=1.0).denoise(steps, 0, Pair(latents, other), lambda index, noisy: noisy / 2)
    torch.testing.assert_close(x, steps[0].denoise(latents, other / 2, None))
    torch.testing.assert_close(y, steps[0].denoise(other, x / 2, None))


def gaussian_error(method: OBELM | BDIA, steps: int) -> float:
    """Returns the error at s = 0.1 of sampling from s = 3, from an exact pair.

    For images of N(0, 1) the noise is ε = s z / (1 + s²), and the exact solution of dz = ε ds is z = √(1 + s²).
    """
    levels = [3 - 2.9 * index / steps for index in range(steps + 1)]
    path = [
        Step(timestep=s, phi=1, psi=then - s, rho=0, input_scale=1, signal=1, sigma=s) for s, then in pairwise(levels)
    ]
    exact = [torch.tensor([[[[math.sqrt(1 + s**2)]]]], dtype=torch.float64) for s in levels]
    pair = Pair(exact[1], exact[0])
    for index in range(1, steps):
        noise = levels[index] / (1 + levels[index] ** 2) * pair.latents
        pair = Pair(method.cleaner(path, index, pair, noise), pair.latents)
    return abs(float(pair.latents - exact[-1]))


@pytest.mark.parametrize("method", [OBELM(), BDIA()], ids=["O-BELM", "BDIA"])
def test_two_step_samplers_are_of_second_order_where_steps_are_equal(method: OBELM | BDIA) -> None:
    assert 3.5 < gaussian_error(method, 40) / gaussian_error(method, 80) < 4.5


def test_the_network_is_called_where_the_papers_call_it() -> None:
    for method, calls in ((EDICT(), 2), (BDIA(), 1), (OBELM(), 1)):
        network = RandomNetwork()
        inversion = inverted(method, network, steps=4)
        expected = [1, 251, 501, 751] if calls == 1 else [1, 1, 251, 251, 501, 501, 751, 751]
        # BDIA and O-BELM never call it at z_T, and begin with a plain reversal of the last step.
        inverting = expected if calls == 2 else [1, *expected[:-1]]
        assert network.timesteps == inverting
        assert inversion.nfe.tolist() == [len(inverting)] * 2
        network.timesteps.clear()
        sample(network.model, inversion)
        assert network.timesteps == (expected[::-1] if calls == 2 else expected[-2::-1])


@every_kind
@pytest.mark.parametrize("strength", [0.9, 0.5, 0.1, 0.0])
def test_less_strength_is_as_exact_and_takes_fewer_steps(method: ExactInversion, strength: float) -> None:
    network = RandomNetwork()
    inversion = inverted(method, network, steps=10, keep_trajectory=True)
    assert inversion.trajectory is not None
    assert inversion.companion is not None
    assert inversion.trajectory.shape == inversion.companion.shape == (11, *IMAGES.shape)
    assert torch.equal(inversion.trajectory[0], inversion.latents)
    network.timesteps.clear()
    assert (sample(network.model, inversion, strength=strength) - IMAGES).abs().max() <= 1e-10
    assert len(network.timesteps) == round(10 * strength) * (2 if isinstance(method, EDICT) else 1)
    with pytest.raises(ValueError, match="needs an inversion that kept its trajectory"):
        sample(network.model, inverted(method, network, steps=10), strength=0.5)


@every_kind
def test_an_image_does_not_depend_on_its_batch(method: ExactInversion) -> None:
    network = RandomNetwork()
    inversion = inverted(method, network, steps=5, keep_trajectory=True)
    alone = method.invert(
        network.model, inversion.schedule, IMAGES[1:], prompts(0.1), ImageRNG(0, ["b"]), keep_trajectory=True
    )
    selected = inversion.select([1])
    for field in ("latents", "companion", "trajectory", "nfe"):
        torch.testing.assert_close(getattr(selected, field), getattr(alone, field))
    torch.testing.assert_close(sample(network.model, selected), IMAGES[1:])


@every_kind
def test_an_image_that_turns_infinite_fails_alone(method: ExactInversion) -> None:
    images = IMAGES.clone()
    images[1, 0, 0, 0] = torch.inf
    inversion = inverted(method, RandomNetwork(), steps=5, latents=images, keep_trajectory=True)
    assert inversion.failures == {1: f"the latents turned NaN or infinite in {type(method).__name__}"}
    assert inversion.trajectory is not None
    assert inversion.companion is not None
    for levels in (inversion.latents[None], inversion.trajectory, inversion.companion):
        assert levels[:, 0].isfinite().all()
        assert levels[:, 1].isnan().all()


@every_kind
def test_the_steps_of_the_schedule_are_refused(method: ExactInversion) -> None:
    inversion = inverted(method, RandomNetwork(), steps=4)
    with pytest.raises(
        ValueError, match=f"{type(method).__name__} has a sampler of its own, which only walk and sample"
    ):
        inversion.denoise(0, inversion.latents, inversion.latents)


@every_kind
@pytest.mark.parametrize("outer", [DirectInversion, NullTextInversion])
def test_a_method_that_follows_a_path_step_by_step_refuses_it(
    method: ExactInversion, outer: Any, model: DiffusionModel
) -> None:
    wrapped: Inverter = outer(path=method)
    message = rf"{outer.__name__} takes the steps .* {type(method).__name__} has a sampler of its own; take DDIM"
    with pytest.raises(ValueError, match=message):
        wrapped.check(model, Schedule.from_scheduler(model.scheduler, 4), guidance_scale=2.0)


@every_kind
def test_a_sampler_that_does_not_fit_is_refused(method: ExactInversion, model: DiffusionModel) -> None:
    name = type(method).__name__
    stochastic = [(EulerAncestralDiscreteScheduler(**BETAS), 0.0), (SCHEDULERS["DDIM leading"], 0.5)]
    for scheduler, eta in stochastic:
        message = f"^{name} needs a sampler that draws no noise, such as DDIMScheduler .* draws noise at . of 4 steps"
        with pytest.raises(ValueError, match=message):
            method.check(model, Schedule.from_scheduler(scheduler, 4, eta), 1.0)
    options = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    with pytest.raises(ValueError, match=f"^{name} works with the predicted noise, .* not defined at timestep 999"):
        method.check(model, Schedule.from_scheduler(DDIMScheduler(**DDIM, **options), 4), 1.0)


def test_bdia_and_o_belm_refuse_a_single_step_and_o_belm_one_that_changes_nothing(model: DiffusionModel) -> None:
    single = Schedule.from_scheduler(SCHEDULERS["DDIM trailing"], 1)
    for method in (BDIA(), OBELM()):
        with pytest.raises(ValueError, match="needs num_inference_steps of 2 or more, got 1"):
            method.check(model, single, 1.0)
    EDICT().check(model, single, 1.0)
    idle = Schedule.from_scheduler(DDIMScheduler(**DDIM), 4)  # its last step goes from timestep 0 to timestep 0
    with pytest.raises(ValueError, match=r"the step at timestep 0 does not\. Set scheduler_options.timestep_spacing"):
        OBELM().check(model, idle, 1.0)
    BDIA().check(model, idle, 1.0)


@pytest.mark.parametrize("value", [0.0, -0.5, 1.01, math.nan])
def test_mixing_and_gamma_are_shares(value: float) -> None:
    with pytest.raises(ValueError, match=r"mixing must be in \(0, 1\]"):
        EDICT(mixing=value)
    with pytest.raises(ValueError, match=r"gamma must be in \(0, 1\]"):
        BDIA(gamma=value)


@torch.no_grad()
@every_kind
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_real_model_is_inverted_exactly_with_guidance_too(
    method: ExactInversion, guidance_scale: float, model: DiffusionModel
) -> None:
    inversion = invert(model, method, steps=10, guidance_scale=guidance_scale)
    assert (
        inversion.nfe.tolist() == [10 * (2 if guidance_scale > 1 else 1) * (2 if isinstance(method, EDICT) else 1)] * 2
    )
    assert (sample(model, inversion) - random_latents()).abs().max() <= 1e-5


@torch.no_grad()
@every_kind
@pytest.mark.parametrize("options", [{"guidance_scale": 2.0}, {"guidance_scale": 2.0, "strength": 0.5}])
@pytest.mark.parametrize("name", ["PromptSwap", "NegativePrompt"])
def test_editors_that_sample_under_a_prompt_run(
    method: ExactInversion, name: str, options: dict[str, float], model: DiffusionModel
) -> None:
    editor = load_editors()[name](**options)
    inversion = invert(model, method, guidance_scale=2.0 if name == "PromptSwap" else 1.0)
    check_needs(editor, model, inversion.schedule, method)
    images = model.decode_latents(random_latents())
    unchanged = torch.stack(
        [image for image in run_editor(editor, model, inversion, UNCHANGED) if not isinstance(image, str)]
    )
    torch.testing.assert_close(unchanged, images, rtol=0, atol=1e-4)
    edited = torch.stack(
        [image for image in run_editor(editor, model, inversion, REQUESTS) if not isinstance(image, str)]
    )
    assert (edited - images).abs().flatten(1).amax(dim=1).min() > 0.02


@every_kind
@pytest.mark.parametrize("name", ["PromptToPrompt", "Pix2PixZero", "NullText"])
def test_editors_that_take_the_steps_themselves_are_refused(
    method: ExactInversion, name: str, model: DiffusionModel
) -> None:
    editor = load_editors()[name]()
    inversion = invert(model, method)
    message = f"^{name} takes each step of the schedule itself, and {type(method).__name__} has .* PromptSwap or Neg"
    with pytest.raises(ValueError, match=message):
        check_needs(editor, model, inversion.schedule, method)
    with pytest.raises(ValueError, match=message):
        check_inversion(editor, inversion)


def test_walk_runs_the_inversions_own_sampler() -> None:
    network = RandomNetwork()
    inversion = inverted(EDICT(), network, steps=4)
    predicted: list[float] = []

    def predict(position: float, latents: torch.Tensor) -> torch.Tensor:
        predicted.append(position)
        step = inversion.schedule.at(position)
        return network.predict(step.input_scale * latents, step.timestep, inversion.conditioning)

    torch.testing.assert_close(walk(inversion, predict), IMAGES)
    assert predicted == [0, 0, 1, 1, 2, 2, 3, 3]
