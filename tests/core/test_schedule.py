from __future__ import annotations

import inspect
import math
from itertools import product
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
)

from renoise.core.schedule import Schedule
from renoise.core.step import Step

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS = ("leading", "trailing", "linspace")


def ddim(**options: object) -> DDIMScheduler:
    return DDIMScheduler(
        **STABLE_DIFFUSION | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1} | options
    )


def random_latents(count: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(count, 2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def in_terms_of_v(phi: float, psi: float, alpha: float) -> tuple[float, float]:
    """φ and ψ of a step given for ε, for the same step's v: ε = √ᾱ v + √(1−ᾱ) z."""
    return phi + psi * math.sqrt(1 - alpha), psi * math.sqrt(alpha)


def ddim_closed_form(scheduler: DDIMScheduler, timestep: int, steps: int, eta: float = 0) -> tuple[float, float, float]:
    """φ, ψ and ρ of the paper's table for ε-prediction, and of the same step written in v for v-prediction."""
    previous = timestep - scheduler.config.num_train_timesteps // steps
    alpha = float(scheduler.alphas_cumprod[timestep])
    alpha_previous = float(scheduler.alphas_cumprod[previous] if previous >= 0 else scheduler.final_alpha_cumprod)
    sigma = eta * math.sqrt((1 - alpha_previous) / (1 - alpha)) * math.sqrt(1 - alpha / alpha_previous)
    phi = math.sqrt(alpha_previous / alpha)
    psi = math.sqrt(1 - alpha_previous - sigma**2) - phi * math.sqrt(1 - alpha)
    if scheduler.config.prediction_type == "v_prediction":
        phi, psi = in_terms_of_v(phi, psi, alpha)
    return phi, psi, sigma


@pytest.mark.parametrize("eta", [0, 0.3, 1])
@pytest.mark.parametrize("steps", [4, 10, 50])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ddim_coefficients_are_the_closed_forms(spacing: str, prediction_type: str, steps: int, eta: float) -> None:
    scheduler = ddim(timestep_spacing=spacing, prediction_type=prediction_type)
    schedule = Schedule.from_scheduler(scheduler, steps, eta)
    assert len(schedule) == steps
    assert schedule.is_stochastic == (eta > 0)
    for step in schedule:
        phi, psi, sigma = ddim_closed_form(scheduler, int(step.timestep), steps, eta)
        assert step.phi == pytest.approx(phi, abs=1e-6)
        assert step.psi == pytest.approx(psi, abs=1e-6)
        assert step.rho == pytest.approx(sigma, abs=1e-6)
        assert step.input_scale == 1


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_lcm_coefficients_are_the_closed_forms(prediction_type: str, steps: int) -> None:
    scheduler = LCMScheduler(**STABLE_DIFFUSION, clip_sample=False, prediction_type=prediction_type)
    schedule = Schedule.from_scheduler(scheduler, steps)
    alphas = [float(scheduler.alphas_cumprod[int(step.timestep)]) for step in schedule]
    for number, (step, alpha) in enumerate(zip(schedule, alphas, strict=True)):
        alpha_previous = alphas[number + 1] if number + 1 < steps else 1.0
        scaled = step.timestep * 10  # the consistency model's boundary condition, with σ_data = 1/2
        c_skip, c_out = 0.25 / (scaled**2 + 0.25), scaled / math.sqrt(scaled**2 + 0.25)
        phi = math.sqrt(alpha_previous) * (c_out / math.sqrt(alpha) + c_skip)
        psi = -math.sqrt(alpha_previous) * c_out * math.sqrt(1 - alpha) / math.sqrt(alpha)
        if prediction_type == "v_prediction":
            phi, psi = in_terms_of_v(phi, psi, alpha)
        assert step.phi == pytest.approx(phi, abs=1e-6)
        assert step.psi == pytest.approx(psi, abs=1e-6)
        assert step.rho == pytest.approx(math.sqrt(1 - alpha_previous), abs=1e-6)
        assert step.input_scale == 1
    assert schedule.steps[-1].rho == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_coefficients_are_the_closed_forms(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule = Schedule.from_scheduler(scheduler, 6)
    scheduler.set_timesteps(6)
    assert schedule.init_noise_sigma == 1
    sigmas = scheduler.sigmas.tolist()
    for step, sigma, following in zip(schedule, sigmas[:-1], sigmas[1:], strict=True):
        assert step.phi == pytest.approx(1, abs=1e-6)
        assert step.psi == pytest.approx(following - sigma, abs=1e-6)
        assert step.rho == 0
        assert step.input_scale == 1
        assert (step.signal, step.sigma) == pytest.approx((1 - sigma, sigma), abs=1e-6)
        clean, noise = random_latents(2).double()
        seen = step.predicted_noise(step.add_noise(clean, noise), noise - clean)  # the network predicts ε − z_0
        torch.testing.assert_close(seen, noise, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ancestral_euler_coefficients_are_the_closed_forms(spacing: str) -> None:
    scheduler = EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing=spacing)
    schedule = Schedule.from_scheduler(scheduler, 4)
    scheduler.set_timesteps(4)
    for step, sigma, following in zip(
        schedule, scheduler.sigmas[:-1].tolist(), scheduler.sigmas[1:].tolist(), strict=True
    ):
        up = math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2)
        down = math.sqrt(following**2 - up**2)
        assert step.phi == pytest.approx(1, abs=1e-6)
        assert step.psi == pytest.approx(down - sigma, abs=1e-5)
        assert step.rho == pytest.approx(up, abs=1e-5)
        assert step.input_scale == pytest.approx(1 / math.sqrt(sigma**2 + 1), abs=1e-6)


VARIANCE_PRESERVING = {"clip_sample": False}
SAMPLERS: list[tuple[type[SchedulerMixin], dict[str, Any], float]] = [
    (DDIMScheduler, VARIANCE_PRESERVING | {"set_alpha_to_one": False, "steps_offset": 1}, 0),
    (DDIMScheduler, VARIANCE_PRESERVING, 0.5),
    (DDIMScheduler, VARIANCE_PRESERVING, 1),
    (DDPMScheduler, VARIANCE_PRESERVING, 0),
    (EulerDiscreteScheduler, {}, 0),
    (EulerAncestralDiscreteScheduler, {}, 0),
    (LCMScheduler, VARIANCE_PRESERVING, 0),
]


def samplers(prediction_types: tuple[str, ...], spacings: tuple[str, ...] = SPACINGS) -> list[Any]:
    """Every sampler with each kind of prediction under each spacing, and its η; LCM has one spacing of its own."""
    return [
        pytest.param(
            kind(**STABLE_DIFFUSION, **options, prediction_type=prediction_type, timestep_spacing=spacing),
            eta,
            id=f"{kind.__name__}-{eta}-{prediction_type}-{spacing}",
        )
        for (kind, options, eta), prediction_type, spacing in product(SAMPLERS, prediction_types, spacings)
        if (kind is not LCMScheduler or spacing == spacings[0])
        and (kind is not EulerAncestralDiscreteScheduler or prediction_type != "sample")  # diffusers does not have it
    ]


def own_step(
    scheduler: SchedulerMixin, timestep: torch.Tensor, latents: torch.Tensor, prediction: torch.Tensor, eta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """diffusers' own step, and the noise that it draws where it draws any."""
    scheduler.scale_model_input(latents, timestep)
    seed = int(timestep)
    offered = {"generator": torch.Generator().manual_seed(seed), "eta": eta}
    options = {name: offered[name] for name in offered if name in inspect.signature(scheduler.step).parameters}
    stepped = scheduler.step(prediction, timestep, latents, return_dict=False, **options)[0]
    return stepped, torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))


def paired(scheduler: SchedulerMixin, steps: int, eta: float) -> list[tuple[Step, torch.Tensor]]:
    """The steps read off `scheduler`, each with the timestep that the scheduler, now ready for them, knows it by."""
    schedule = Schedule.from_scheduler(scheduler, steps, eta)
    scheduler.set_timesteps(steps)
    return list(zip(schedule, scheduler.timesteps, strict=True))


@pytest.mark.parametrize(("scheduler", "eta"), samplers(("epsilon", "v_prediction")))
def test_a_step_is_the_schedulers_own_and_its_inverse_undoes_it(scheduler: SchedulerMixin, eta: float) -> None:
    for step, timestep in paired(scheduler, 8, eta):
        latents, prediction = random_latents(2, seed=int(timestep))
        expected, noise = own_step(scheduler, timestep, latents, prediction, eta)
        ours = step.denoise(latents, prediction, noise)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
        undone = step.renoise(expected, prediction, noise)
        # What is rounded off in z_{t-1} comes back as 1/φ of it.
        torch.testing.assert_close(undone, latents, rtol=1e-5, atol=1e-5 * max(1, 1 / step.phi))


@pytest.mark.parametrize("steps", [4, 8])
@pytest.mark.parametrize(("scheduler", "eta"), samplers(("epsilon", "v_prediction")))
def test_the_schedulers_own_step_undoes_an_inverse(scheduler: SchedulerMixin, eta: float, steps: int) -> None:
    for step, timestep in paired(scheduler, steps, eta):
        previous, prediction = random_latents(2, seed=int(timestep))
        noise = torch.randn(previous.shape, generator=torch.Generator().manual_seed(int(timestep)))
        latents = step.renoise(previous, prediction, noise)
        back, drawn = own_step(scheduler, timestep, latents, prediction, eta)
        assert torch.equal(drawn, noise)
        # Ancestral Euler's ρ reaches 4: what the step adds and takes away is that much larger than what is left.
        torch.testing.assert_close(back, previous, rtol=0, atol=1e-5 * max(1, step.rho))


@pytest.mark.parametrize(("scheduler", "eta"), samplers(("epsilon",)))
def test_noising_to_a_level_is_the_schedulers_own(scheduler: SchedulerMixin, eta: float) -> None:
    for step, timestep in paired(scheduler, 8, eta):
        clean, noise = random_latents(2)
        expected = scheduler.add_noise(clean, noise, timestep[None])
        torch.testing.assert_close(step.add_noise(clean, noise), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("scheduler", "eta"), samplers(("epsilon", "v_prediction", "sample"), spacings=("leading", "trailing"))
)
def test_an_exact_prediction_implies_the_noise_that_was_added(scheduler: SchedulerMixin, eta: float) -> None:
    for step, timestep in paired(scheduler, 8, eta):
        clean, noise = random_latents(2).double()
        latents = step.add_noise(clean, noise)
        alpha = float(scheduler.alphas_cumprod[int(timestep)])
        velocity = math.sqrt(alpha) * noise - math.sqrt(1 - alpha) * clean
        answers = {"epsilon": noise, "v_prediction": velocity, "sample": clean}
        answer = answers[scheduler.config.prediction_type]
        torch.testing.assert_close(step.predicted_noise(latents, answer), noise, rtol=0, atol=1e-4)
        torch.testing.assert_close(step.prediction_of_noise(latents, noise), answer, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scheduler", "eta"), samplers(("epsilon", "v_prediction", "sample"), spacings=("leading",)))
def test_prediction_of_noise_is_the_inverse_of_predicted_noise(scheduler: SchedulerMixin, eta: float) -> None:
    latents, prediction = random_latents(2).double()
    for step in Schedule.from_scheduler(scheduler, 8, eta):
        seen = step.predicted_noise(latents, prediction)
        torch.testing.assert_close(step.prediction_of_noise(latents, seen), prediction, rtol=0, atol=1e-10)


def test_v_does_not_imply_the_noise_at_a_level_of_pure_noise() -> None:
    zero_snr = ddim(prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True)
    first, *others = Schedule.from_scheduler(zero_snr, 4)
    assert (first.signal, first.sigma) == (0, 1)
    assert first.noise_from_prediction == 0
    assert all(step.noise_from_prediction > 0 for step in others)


@pytest.mark.parametrize(
    ("kind", "eta"), [(DDIMScheduler, 1), (DDPMScheduler, 0), (LCMScheduler, 0)], ids=["DDIM", "DDPM", "LCM"]
)
def test_a_stochastic_sampler_whose_step_from_pure_noise_ignores_the_latents_is_refused(
    kind: type[SchedulerMixin], eta: float
) -> None:
    """z_{t-1} = ψ v + ρ ε: z_t cannot be found from z_{t-1}."""
    options = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    with pytest.raises(ValueError, match=r"^scheduler: "):
        Schedule.from_scheduler(kind(**STABLE_DIFFUSION, **VARIANCE_PRESERVING, **options), 4, eta)


def test_a_prediction_type_that_the_sampler_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"EulerAncestralDiscreteScheduler.*sample"):
        Schedule.from_scheduler(EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, prediction_type="sample"), 4)


def test_reading_leaves_the_scheduler_as_it_was() -> None:
    scheduler = ddim()
    scheduler.set_timesteps(7)
    before = scheduler.timesteps.clone()
    Schedule.from_scheduler(scheduler, 50)
    assert torch.equal(scheduler.timesteps, before)


@pytest.mark.parametrize(
    "scheduler",
    [
        DPMSolverMultistepScheduler(**STABLE_DIFFUSION),
        PNDMScheduler(**STABLE_DIFFUSION, skip_prk_steps=True),
        HeunDiscreteScheduler(**STABLE_DIFFUSION),
    ],
    ids=["multistep", "pseudo-multistep", "second order"],
)
def test_a_sampler_whose_step_is_not_affine_is_refused_with_the_reason(scheduler: SchedulerMixin) -> None:
    with pytest.raises(ValueError, match=r"^scheduler: .* is not affine .* take DDIMScheduler$"):
        Schedule.from_scheduler(scheduler, 10)


@pytest.mark.parametrize("options", [["clip_sample"], ["thresholding"], ["clip_sample", "thresholding"]])
def test_a_sampler_that_clips_is_refused_with_the_option_and_never_advised(options: list[str]) -> None:
    names = " and ".join(f"scheduler_options.{option}" for option in options)
    with pytest.raises(ValueError, match=rf"^scheduler: DDIMScheduler cannot be inverted: .* Set {names} to false$"):
        Schedule.from_scheduler(ddim(**dict.fromkeys(options, True)), 10)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler, LCMScheduler])
def test_zero_snr_with_epsilon_is_refused_with_both_options(kind: type[SchedulerMixin]) -> None:
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    with pytest.raises(ValueError, match=r"^scheduler: .*: rescale_betas_zero_snr makes .*prediction_type epsilon ca"):
        Schedule.from_scheduler(kind(**STABLE_DIFFUSION | options), 4)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_an_impossible_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=r"^num_inference_steps must be in \[1, 1000\]"):
        Schedule.from_scheduler(ddim(), steps)


def test_a_number_of_steps_that_the_sampler_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_inference_steps or .*: DDIMScheduler cannot make 1000"):
        Schedule.from_scheduler(
            ddim(timestep_spacing="leading"), 1000
        )  # its offset of 1 leads beyond the last timestep
    with pytest.raises(ValueError, match=r"^num_inference_steps or .*: LCMScheduler cannot make 60"):
        Schedule.from_scheduler(LCMScheduler(**STABLE_DIFFUSION, clip_sample=False), 60)


def test_a_stochastic_step_requires_its_noise() -> None:
    step = Schedule.from_scheduler(LCMScheduler(**STABLE_DIFFUSION, clip_sample=False), 4).steps[0]
    with pytest.raises(ValueError, match="noise must be given"):
        step.denoise(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), None)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan, math.inf])
def test_eta_outside_its_range_is_refused_by_name(eta: float) -> None:
    with pytest.raises(ValueError, match=rf"^eta must be in \[0, 1\], got {eta}"):
        Schedule.from_scheduler(ddim(), 10, eta)


@pytest.mark.parametrize("kind", [DDPMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, LCMScheduler])
def test_eta_is_refused_with_a_sampler_that_has_none(kind: type[SchedulerMixin]) -> None:
    with pytest.raises(ValueError, match=rf"^eta must be 0 with {kind.__name__}, which has no η, got 0\.5"):
        Schedule.from_scheduler(kind(**STABLE_DIFFUSION), 10, eta=0.5)


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
def test_an_unknown_prediction_type_is_refused(kind: type[SchedulerMixin]) -> None:
    with pytest.raises(ValueError, match=r"prediction_type .*nonsense"):
        Schedule.from_scheduler(kind(**STABLE_DIFFUSION, prediction_type="nonsense"), 10)
