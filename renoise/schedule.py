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

from renoise.errors import InputError

PROBES = 16
"""Rows of known inputs per step: 3 fix the coefficients, the others show whether they hold."""
TOLERANCE = 1e-4
"""Largest misfit of an affine step, relative to what it returns; float32 schedulers reach about 1e-6."""
NO_NOISE = 1e-5
"""A ρ below this is the fit's own rounding: the step draws no noise."""


@dataclass(frozen=True)
class Step:
    """One step of the sampler, from level t to the next cleaner one.

    `latents` and `noise` coefficients follow the module's equation; `input_scale` is what the network's input is
    multiplied by (`scheduler.scale_model_input`).
    """

    timestep: float
    phi: float
    psi: float
    rho: float
    input_scale: float

    def denoise(self, latents: torch.Tensor, prediction: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """z_{t-1} = φ z_t + ψ ε_θ + ρ ε. `noise` may be None where ρ = 0."""
        return self._with_noise(self.phi * latents + self.psi * prediction, noise, self.rho)

    def renoise(self, previous: torch.Tensor, prediction: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """z_t = (z_{t-1} − ψ ε_θ − ρ ε) / φ, the inverse of `denoise` under the same prediction and noise."""
        return self._with_noise(previous - self.psi * prediction, noise, -self.rho) / self.phi

    def _with_noise(self, latents: torch.Tensor, noise: torch.Tensor | None, scale: float) -> torch.Tensor:
        if self.rho == 0:
            return latents
        if noise is None:
            raise ValueError(f"the step at timestep {self.timestep} is stochastic (ρ = {self.rho}) and needs its noise")
        return latents + scale * noise


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

    @classmethod
    def read(cls, scheduler: SchedulerMixin, num_inference_steps: int) -> Schedule:
        """Reads the steps off `scheduler`, which is left as it was.

        Raises:
            InputError: the scheduler cannot make so many steps, or a step is not affine; the message says which.
        """
        name = type(scheduler).__name__
        scheduler = copy.deepcopy(scheduler)
        levels = scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= levels:
            raise InputError(f"model.num_inference_steps must lie in 1…{levels}, got {num_inference_steps}")
        generator = torch.Generator().manual_seed(0)
        try:
            scheduler.set_timesteps(num_inference_steps)
            steps = tuple(_read_step(scheduler, timestep, generator, name) for timestep in scheduler.timesteps)
        except InputError:
            raise
        except (ValueError, IndexError) as error:
            raise InputError(f"model.num_inference_steps: {name} cannot make {num_inference_steps}: {error}") from error
        return cls(steps, float(scheduler.init_noise_sigma))


def _read_step(scheduler: SchedulerMixin, timestep: torch.Tensor, generator: torch.Generator, name: str) -> Step:
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
    input_scale = scheduler.scale_model_input(ones, timestep).flatten()
    # The step's own noise: what a generator of the same seed gives when asked for the same shape first.
    known, seed = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    noise = torch.randn(latents.shape, dtype=latents.dtype, generator=known)
    arguments = {"generator": seed} if "generator" in inspect.signature(scheduler.step).parameters else {}
    result = scheduler.step(prediction, timestep, latents, return_dict=False, **arguments)[0].double().flatten()

    inputs = torch.stack([latents.flatten(), prediction.flatten(), noise.flatten()], dim=1)
    weight = 1 / scale[:, None]  # small and large probes count alike
    phi, psi, rho = torch.linalg.lstsq(inputs * weight, result[:, None] * weight).solution.flatten().tolist()
    misfit = ((inputs @ torch.tensor([phi, psi, rho], dtype=torch.float64) - result).abs() / scale).max().item()
    if not misfit <= TOLERANCE:
        raise InputError(
            f"model.scheduler: a step of {name} is not affine in the latents, the prediction and one fresh noise "
            f"(misfit {misfit:.1e} at timestep {timestep.item():g}), so it cannot be inverted; multistep samplers, "
            "clip_sample and thresholding are of this kind. DDIMScheduler works with every epsilon- and v-prediction "
            "checkpoint"
        )
    return Step(timestep.item(), phi, psi, rho if abs(rho) > NO_NOISE else 0.0, input_scale[0].item())
