"""φ, ψ, ρ and the timestep of every step, read off a diffusers scheduler.

A single-step sampler is affine in the latents, the network's output and the fresh noise,

    z_{t-1} = φ_t · z_t + ψ_t · ε_θ(z_t, t, c) + ρ_t · ε_t,

so its three coefficients follow from one call of `scheduler.step` with known inputs. No scheduler needs a formula of
its own. A scheduler that is not affine (multistep, thresholding, clipping) does not fit the equation and is refused.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from renoise.core.prediction_types import (
    PREDICTION_TYPES,
    predicted_noise,
    prediction_type,
    read_noising,
    read_shift,
    unshift,
)
from renoise.core.step import Step

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

PROBES = 16
"""Known inputs per step: 3 determine the coefficients, the others show whether the step is affine."""
TOLERANCE = 1e-4
"""Largest misfit of an affine step, relative to its inputs. float32 schedulers reach about 1e-6."""
MIN_RHO = 1e-5
"""A smaller ρ is the rounding error of the fit: the step draws no noise."""
CLIPPING = ("clip_sample", "thresholding")
"""Options under which a scheduler clips its estimate of z_0."""
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)
"""What `step` raises in schedulers that cannot make one step by itself."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a sampler, noisiest first, in the order of diffusers.

    Args:
        steps: The S steps.
        init_noise_sigma: Standard deviation of the latents before the first step.

    Example:
        >>> from diffusers import DDIMScheduler
        >>> from renoise import Schedule
        >>> schedule = Schedule.from_scheduler(DDIMScheduler(clip_sample=False), num_inference_steps=4)
        >>> [step.timestep for step in schedule]
        [750, 500, 250, 0]
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

    def check_stochastic(self, needed_by: str) -> None:
        """Raises ValueError where no step draws noise.

        Args:
            needed_by: What needs the noise, for the message.
        """
        if not self.is_stochastic:
            raise ValueError(
                f"{needed_by} needs a sampler that draws noise, such as EulerAncestralDiscreteScheduler, "
                "DDPMScheduler, or DDIMScheduler with eta above 0"
            )

    def at(self, position: float) -> Step:
        """Returns the step at a position: step i at i, and between two steps what flow matching has there.

        Args:
            position: From 0 to S. i + x lies on the way from step i to the next level, where a share x of the way in σ
                is done. Position S is the image, σ = 0. Other samplers than those of flow matching have no such steps.
        """
        index = min(int(position), len(self) - 1)
        step = self.steps[index]
        if position == index:
            return step
        assert step.flow
        left = step.psi * (1 - (position - index))  # σ' − σ from here
        sigma = step.sigma + step.psi - left
        share = sigma / step.sigma
        levels: dict[str, Any] = {"sigma": sigma, "signal": 1 - sigma, "noise_from_prediction": 1 - sigma}
        return replace(step, timestep=share * step.timestep, psi=left, **levels)

    @classmethod
    def from_scheduler(
        cls,
        scheduler: SchedulerMixin,
        num_inference_steps: int,
        eta: float = 0.0,
        timestep_options: Mapping[str, Any] | None = None,
    ) -> Schedule:
        """Reads the steps off a scheduler, which is left as it was.

        Args:
            scheduler: Any single-step scheduler of diffusers.
            num_inference_steps: S, the number of steps.
            eta: DDIM's η in [0, 1], the share of DDPM's noise that every step draws.
            timestep_options: More arguments of `scheduler.set_timesteps`; see `DiffusionModel.timestep_options`.

        Raises:
            ValueError: The scheduler cannot make so many steps, has no η, or has a step that is not affine.
        """
        name = type(scheduler).__name__
        scheduler = copy.deepcopy(scheduler)
        levels = scheduler.config.get("num_train_timesteps")
        if levels is None:
            raise ValueError(f"scheduler: {name} has no num_train_timesteps, so its noise levels are unknown")
        if "sigma_data" in scheduler.config:
            raise ValueError(
                f"scheduler: {name} expects a network with EDM preconditioning, and no supported model has it"
            )
        timestep_options = dict(timestep_options or {})
        if scheduler.config.get("use_dynamic_shifting") and "mu" not in timestep_options:
            raise ValueError("scheduler_options.use_dynamic_shifting must be false; set scheduler_options.shift")
        if not 1 <= num_inference_steps <= levels:
            raise ValueError(f"num_inference_steps must be in [1, {levels}], got {num_inference_steps}")
        if prediction_type(scheduler) not in PREDICTION_TYPES:
            raise ValueError(
                f"scheduler_options.prediction_type must be {' or '.join(PREDICTION_TYPES[:3])}, "
                f"got {prediction_type(scheduler)!r}"
            )
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {eta}")
        if eta and "eta" not in inspect.signature(scheduler.step).parameters:
            raise ValueError(f"eta must be 0 with {name}, which has no η, got {eta}; DDIMScheduler has")
        generator = torch.Generator().manual_seed(0)
        try:
            scheduler.set_timesteps(num_inference_steps, **timestep_options)
            shift = read_shift(scheduler, timestep_options.get("mu"))
            steps = tuple(_read_step(scheduler, timestep, generator, eta, shift) for timestep in scheduler.timesteps)
        except _NotAffineError as error:
            raise ValueError(f"scheduler: {error}") from None
        except (ValueError, IndexError) as error:
            options = "num_inference_steps or scheduler_options"
            raise ValueError(f"{options}: {name} cannot make {num_inference_steps} steps: {error}") from error
        except UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"scheduler: the steps of {name} cannot be read ({reason})") from error
        return cls(steps, float(getattr(scheduler, "init_noise_sigma", 1.0)))


class _NotAffineError(ValueError):
    """A step that does not follow the module's equation, or that cannot be inverted."""


def _read_step(
    scheduler: SchedulerMixin, timestep: torch.Tensor, generator: torch.Generator, eta: float, shift: float
) -> Step:
    """Fits φ, ψ, ρ to one call of `scheduler.step`.

    Every step gets new probes, so a multistep scheduler, which uses earlier steps, does not fit. The probes reach up to
    100, so a scheduler that clips does not fit either.
    """
    scale = 10 ** torch.linspace(-1, 2, PROBES, dtype=torch.float64)
    latents, prediction = (
        (torch.randn(PROBES, dtype=torch.float64, generator=generator) * scale).reshape(PROBES, 1, 1, 1)
        for _ in range(2)
    )
    is_flow = prediction_type(scheduler) == "flow"
    if is_flow:  # what these two lead to are φ and ψ themselves, without the rounding of the fit
        latents[:2], prediction[:2] = torch.eye(2)[:, :, None, None, None].unbind(1)
    ones = torch.ones_like(latents)
    input_scale = 1.0
    if hasattr(scheduler, "scale_model_input"):  # flow matching schedulers do not have it
        input_scale = scheduler.scale_model_input(ones, timestep).flatten()[0].item()
    signal, sigma = read_noising(scheduler, timestep)
    # The step draws the same noise as a generator of the same seed does for the same shape, flow matching in float32.
    dtype = torch.float32 if is_flow else latents.dtype
    noise = torch.randn(latents.shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).double()
    options = {"generator": torch.Generator().manual_seed(1), "eta": eta}
    arguments = {name: options[name] for name in options if name in inspect.signature(scheduler.step).parameters}
    result = scheduler.step(prediction, timestep, latents, return_dict=False, **arguments)[0].double().flatten()

    inputs = torch.stack([latents.flatten(), prediction.flatten(), noise.flatten()], dim=1)
    weight = 1 / scale[:, None]  # gives small and large probes the same weight
    phi, psi, rho = torch.linalg.lstsq(inputs * weight, result[:, None] * weight).solution.flatten().tolist()
    if is_flow and abs(rho) <= MIN_RHO:
        phi, psi = result[:2].tolist()
    misfit = ((inputs @ torch.tensor([phi, psi, rho], dtype=torch.float64) - result).abs() / scale).max().item()
    if not misfit <= TOLERANCE:
        raise _NotAffineError(f"{type(scheduler).__name__} cannot be inverted: {_reason(scheduler, timestep, misfit)}")
    from_input, from_prediction = predicted_noise(scheduler, input_scale * signal, input_scale * sigma)
    if from_prediction == 0 and abs(phi) <= MIN_RHO:
        raise _NotAffineError(
            f"{type(scheduler).__name__} cannot be inverted: its step at timestep {timestep.item():g} does not depend "
            f"on the latents (φ = {phi:.0e}). Use a sampler that draws no noise, such as DDIMScheduler"
        )
    return Step(
        timestep=timestep.item(),
        phi=phi,
        psi=psi,
        rho=rho if abs(rho) > MIN_RHO else 0.0,
        input_scale=input_scale,
        signal=signal,
        sigma=sigma,
        noise_from_latents=input_scale * from_input,
        noise_from_prediction=from_prediction,
        flow=is_flow,
        unshifted_timestep=unshift(sigma, shift, scheduler.config.num_train_timesteps) if is_flow else None,
    )


def _reason(scheduler: SchedulerMixin, timestep: torch.Tensor, misfit: float) -> str:
    """Returns why a step is not affine, and what to do."""
    config = scheduler.config
    if config.get("rescale_betas_zero_snr") and prediction_type(scheduler) == "epsilon" and not math.isfinite(misfit):
        return (
            f"rescale_betas_zero_snr makes timestep {timestep.item():g} pure noise, which prediction_type epsilon "
            "cannot start from. Set scheduler_options.rescale_betas_zero_snr to false, or "
            "scheduler_options.prediction_type to v_prediction where the network predicts v"
        )
    best = "FlowMatchEulerDiscreteScheduler" if prediction_type(scheduler) == "flow" else "DDIMScheduler"
    is_best = type(scheduler).__name__ == best
    clipping = [f"scheduler_options.{name}" for name in CLIPPING if config.get(name)]
    if clipping:
        other = "" if is_best else f". If that is not enough, it is a multistep sampler; take {best} as well"
        return f"it clips its estimate of the image. Set {' and '.join(clipping)} to false{other}"
    advice = "" if is_best else f". Multistep samplers cause this; take {best}"
    return (
        "a step is not affine in the latents, the prediction and one fresh noise "
        f"(misfit {misfit:.1e} at timestep {timestep.item():g}){advice}"
    )
