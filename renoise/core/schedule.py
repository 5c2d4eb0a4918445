"""φ, ψ, ρ and timesteps of every step, read off a diffusers scheduler.

A single-step sampler is affine in the latents, the network's output and the fresh noise,

    z_{t-1} = φ_t · z_t + ψ_t · ε_θ(z_t, t, c) + ρ_t · ε_t,

so its three coefficients follow from a few calls of `scheduler.step` with known inputs. No sampler needs a formula of
its own here, and one that is not affine (multistep, thresholding, clipping) gives itself away by not fitting.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin

from renoise.core.step import Step
from renoise.errors import InputError

PROBES = 16
"""Rows of known inputs per step: 3 fix the coefficients, the others show whether they hold."""
TOLERANCE = 1e-4
"""Largest misfit of an affine step, relative to its inputs; float32 schedulers reach about 1e-6."""
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow")
OTHER_HABITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)
"""What schedulers raise that are not made to be asked for one step at a time."""
NO_NOISE = 1e-5
"""A ρ below this is the fit's own rounding: the step draws no noise."""


@dataclass(frozen=True)
class Schedule:
    """The sampler's steps, noisiest first, as diffusers orders them.

    `init_noise_sigma` is the standard deviation of pure noise before the first step.
    """

    steps: tuple[Step, ...]
    init_noise_sigma: float

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __reversed__(self) -> Iterator[Step]:
        return reversed(self.steps)

    @property
    def is_stochastic(self) -> bool:
        """Whether any step draws noise."""
        return any(step.rho != 0 for step in self.steps)

    def check_stochastic(self, wanted_by: str) -> None:
        """Raises InputError where no step draws noise, which somebody cannot do without."""
        if not self.is_stochastic:
            raise InputError(
                f"{wanted_by} needs a sampler that draws noise, such as EulerAncestralDiscreteScheduler, "
                "DDPMScheduler, or DDIMScheduler with model.eta above 0"
            )

    @classmethod
    def from_scheduler(cls, scheduler: SchedulerMixin, num_inference_steps: int, eta: float = 0.0) -> Schedule:
        """Reads the steps off `scheduler`, which is left as it was.

        Args:
            scheduler: of diffusers.
            num_inference_steps: S.
            eta: in [0, 1]; DDIM's share of the noise that DDPM draws afresh at every step.

        Raises:
            InputError: the scheduler cannot make so many steps, takes no η, or has a step that is not affine.
        """
        name = type(scheduler).__name__
        scheduler = copy.deepcopy(scheduler)
        levels = scheduler.config.get("num_train_timesteps")
        if levels is None:
            raise InputError(f"model.scheduler: {name} has no levels of noise to walk down")
        if "sigma_data" in scheduler.config:
            raise InputError(
                f"model.scheduler: {name} takes the network's output as EDM preconditions it; no supported model is of "
                "that kind"
            )
        if not 1 <= num_inference_steps <= levels:
            raise InputError(f"model.num_inference_steps must lie in 1…{levels}, got {num_inference_steps}")
        if prediction_type(scheduler) not in PREDICTION_TYPES:
            raise InputError(
                f"model.scheduler_options.prediction_type must be {' or '.join(PREDICTION_TYPES[:3])}, "
                f"got {prediction_type(scheduler)!r}"
            )
        if not 0 <= eta <= 1:
            raise InputError(f"model.eta must lie in 0…1, got {eta}")
        if eta and "eta" not in inspect.signature(scheduler.step).parameters:
            raise InputError(f"model.eta must be 0 with {name}, which takes no η, got {eta}; DDIMScheduler does")
        generator = torch.Generator().manual_seed(0)
        try:
            scheduler.set_timesteps(num_inference_steps)
            steps = tuple(_read_step(scheduler, timestep, generator, eta) for timestep in scheduler.timesteps)
        except InputError:
            raise
        except (ValueError, IndexError) as error:
            options = "model.num_inference_steps or model.scheduler_options"
            raise InputError(f"{options}: {name} cannot make {num_inference_steps} steps: {error}") from error
        except OTHER_HABITS as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"model.scheduler: the steps of {name} cannot be read ({reason})") from error
        return cls(steps, float(getattr(scheduler, "init_noise_sigma", 1.0)))


def prediction_type(scheduler: SchedulerMixin) -> str:
    """What the sampler takes the network's output for; "flow" of flow matching, whose schedulers do not name it."""
    return str(scheduler.config.get("prediction_type", "epsilon")) if hasattr(scheduler, "add_noise") else "flow"


def _read_step(scheduler: SchedulerMixin, timestep: torch.Tensor, generator: torch.Generator, eta: float) -> Step:
    """Fits φ, ψ, ρ to one call of `scheduler.step`.

    Every probe is new at every step, so that a sampler which looks back at earlier steps cannot fit; they are wide
    enough (up to 100) that one which clips cannot either.
    """
    scale = 10 ** torch.linspace(-1, 2, PROBES, dtype=torch.float64)
    latents, prediction = (
        (torch.randn(PROBES, dtype=torch.float64, generator=generator) * scale).reshape(PROBES, 1, 1, 1)
        for _ in range(2)
    )
    ones = torch.ones_like(latents)
    input_scale = 1.0
    if hasattr(scheduler, "scale_model_input"):  # flow matching has none
        input_scale = scheduler.scale_model_input(ones, timestep).flatten()[0].item()
    signal, sigma = _read_noising(scheduler, timestep)
    # The step's own noise: what a generator of the same seed gives when asked for the same shape first.
    known, seed = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    noise = torch.randn(latents.shape, dtype=latents.dtype, generator=known)
    offered = {"generator": seed, "eta": eta}
    arguments = {key: offered[key] for key in offered if key in inspect.signature(scheduler.step).parameters}
    result = scheduler.step(prediction, timestep, latents, return_dict=False, **arguments)[0].double().flatten()

    inputs = torch.stack([latents.flatten(), prediction.flatten(), noise.flatten()], dim=1)
    weight = 1 / scale[:, None]  # small and large probes count alike
    phi, psi, rho = torch.linalg.lstsq(inputs * weight, result[:, None] * weight).solution.flatten().tolist()
    misfit = ((inputs @ torch.tensor([phi, psi, rho], dtype=torch.float64) - result).abs() / scale).max().item()
    if not misfit <= TOLERANCE:
        raise InputError(
            f"model.scheduler: a step of {type(scheduler).__name__} is not affine in the latents, the prediction and "
            "one fresh noise "
            f"(misfit {misfit:.1e} at timestep {timestep.item():g}), so it cannot be inverted; multistep samplers, "
            "clip_sample and thresholding are of this kind. DDIMScheduler works with every epsilon- and v-prediction "
            "checkpoint"
        )
    of_latents, of_prediction = _read_predicted_noise(scheduler, input_scale * signal, input_scale * sigma)
    if of_prediction == 0 and abs(phi) <= NO_NOISE:
        raise InputError(
            f"model.scheduler: the step of {type(scheduler).__name__} at timestep {timestep.item():g} forgets its "
            f"latents (φ = {phi:.0e}), so it cannot be inverted; a sampler that draws no noise keeps them"
        )
    return Step(
        timestep=timestep.item(),
        phi=phi,
        psi=psi,
        rho=rho if abs(rho) > NO_NOISE else 0.0,
        input_scale=input_scale,
        signal=signal,
        sigma=sigma,
        noise_from_latents=input_scale * of_latents,
        noise_from_prediction=of_prediction,
    )


def _read_noising(scheduler: SchedulerMixin, timestep: torch.Tensor) -> tuple[float, float]:
    """What z_0 and the noise are multiplied by where z_0 is noised to this level."""
    zero, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    if prediction_type(scheduler) == "flow":  # it names the function otherwise, and orders its arguments otherwise
        return tuple(scheduler.scale_noise(a, timestep[None], b).item() for a, b in ((one, zero), (zero, one)))
    return tuple(scheduler.add_noise(a, b, timestep[None]).item() for a, b in ((one, zero), (zero, one)))


def _read_predicted_noise(scheduler: SchedulerMixin, signal: float, sigma: float) -> tuple[float, float]:
    """ε = a · x + b · prediction, with the network's input x = signal · z_0 + sigma · ε; (a, b)."""
    return {
        "epsilon": (0.0, 1.0),
        "v_prediction": (sigma, signal),  # v = signal · ε − sigma · z_0, and signal² + sigma² = 1
        "sample": (1 / sigma, -signal / sigma),
        "flow": (1.0, signal),  # v = ε − z_0, and signal + sigma = 1
    }[prediction_type(scheduler)]
