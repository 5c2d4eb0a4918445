"""One step of a single-step sampler and its inverse: the formula that everything else uses.

z_{t-1} = φ_t · z_t + ψ_t · ε_θ(z_t, t, c) + ρ_t · ε_t
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

MAX_SIGMA_TO_REGULARIZE = 0.9
"""Highest noise level of flow matching at which edit regularization acts, see `Step.takes_regularization`."""


@dataclass(frozen=True)
class Step:
    """One step of a sampler, from noise level t to the next cleaner one.

    `Schedule.from_scheduler` makes the steps of a diffusers scheduler. All tensors are [B, C, h, w].

    Args:
        timestep: t, as the network takes it.
        phi: φ, the factor of the latents.
        psi: ψ, the factor of the network's prediction.
        rho: ρ, the factor of the fresh noise. 0 for a deterministic step.
        input_scale: Factor of the latents at the network's input (`scheduler.scale_model_input`).
        signal: Factor of z_0 in z_t = signal · z_0 + sigma · noise.
        sigma: Factor of the noise there.
        noise_from_latents: a in ε = a · z_t + b · prediction. 0 for a network that predicts ε.
        noise_from_prediction: b in the same equation. 1 for a network that predicts ε.
        flow: Whether the network predicts v = noise − z_0 of flow matching.
        unshifted_timestep: t before the sampler's shift of its noise levels. None is `timestep`.

    Example:
        >>> import torch
        >>> from renoise import Step
        >>> step = Step(timestep=500, phi=1.1, psi=-0.2, rho=0.0, input_scale=1.0, signal=0.8, sigma=0.6)
        >>> latents, prediction = torch.ones(1, 4, 8, 8), torch.ones(1, 4, 8, 8)
        >>> previous = step.denoise(latents, prediction, noise=None)
        >>> torch.allclose(step.renoise(previous, prediction, noise=None), latents)
        True
    """

    timestep: float
    phi: float
    psi: float
    rho: float
    input_scale: float
    signal: float
    sigma: float
    noise_from_latents: float = 0.0
    noise_from_prediction: float = 1.0
    flow: bool = False
    unshifted_timestep: float | None = None

    def denoise(self, latents: torch.Tensor, prediction: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Returns z_{t-1} = φ z_t + ψ ε_θ + ρ ε.

        Args:
            latents: z_t.
            prediction: The network's output at z_t.
            noise: ε_t. May be None where ρ = 0.
        """
        return self._add(self.phi * latents + self.psi * prediction, self.rho, noise)

    def renoise(self, previous: torch.Tensor, prediction: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Returns z_t = (z_{t-1} − ψ ε_θ − ρ ε) / φ, the inverse of `denoise` for the same prediction and noise."""
        return self._add(previous - self.psi * prediction, -self.rho, noise) / self.phi

    def renoise_from(
        self,
        previous: torch.Tensor,
        estimate: torch.Tensor,
        prediction: torch.Tensor,
        noise: torch.Tensor | None,
    ) -> torch.Tensor:
        """Returns z_t from a prediction made at an estimate of z_t, of which `held` is held fixed.

        Args:
            previous: z_{t-1}.
            estimate: The estimate of z_t at which the network was called.
            prediction: Its output.
            noise: ε_t. May be None where ρ = 0.
        """
        return self.renoise_under(previous, self.held(estimate, prediction), noise)

    def held(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Returns what a renoising iteration holds fixed: ε, or v of flow matching.

        The step is z_{t-1} = φ z_t + ψ v. On variance-preserving schedules, φ comes near 0. If v were held fixed, it
        would be divided by that, and the iteration would diverge. So a prediction of v or z_0 is converted to ε.

        With flow matching φ = 1 and ψ = σ' − σ, so v can be held fixed, and that is better. For data N(0, s²) and
        D = (1 − σ)² s² + σ², an iteration multiplies the error by

            (σ − σ') |σ − (1 − σ) s²| / D  with v fixed,   (σ − σ') / (1 − σ') · σ / D  with ε fixed.

        The first is (1 − σ') |1 − (1 − σ) s² / σ| times the second: smaller at all but the cleanest levels, where both
        are small.
        """
        return prediction if self._holds_prediction else self.predicted_noise(latents, prediction)

    def renoise_under(self, previous: torch.Tensor, held: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Returns z_t from z_{t-1} and what is held fixed, see `held`."""
        return self._add(previous - self.psi_of_held * held, -self.rho, noise) / self.phi_of_held

    def solved_held(self, previous: torch.Tensor, latents: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Returns the ε, or v of flow matching, under which z_t leads to z_{t-1}, the inverse of `renoise_under`."""
        return self._add(previous - self.phi_of_held * latents, -self.rho, noise) / self.psi_of_held

    def defect(self, estimate: torch.Tensor, renoised: torch.Tensor) -> torch.Tensor:
        """Returns by how much the sampler's step from an estimate of z_t misses z_{t-1}: φ · (z^{k+1} − z^k).

        Args:
            estimate: z^k.
            renoised: z^{k+1}, what `renoise_from` returns for it.
        """
        return self.phi_of_held * (renoised - estimate)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_0 noised to this level: signal · z_0 + sigma · noise."""
        return self.signal * latents + self.sigma * noise

    def predicted_noise(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Returns the noise ε that a prediction implies for z_t."""
        return self.noise_from_latents * latents + self.noise_from_prediction * prediction

    def prediction_of_noise(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Returns the prediction that implies the noise ε for z_t, the inverse of `predicted_noise`.

        It is not defined where `noise_from_prediction` is 0: v at a level that is pure noise.
        """
        return (noise - self.noise_from_latents * latents) / self.noise_from_prediction

    @property
    def psi_of_noise(self) -> float:
        """ψ of the step written in terms of ε instead of the network's output, z_{t-1} = φ z_t + ψ ε + ρ ε_t."""
        return self.psi if self.noise_from_prediction == 0 else self.psi / self.noise_from_prediction

    @property
    def phi_of_noise(self) -> float:
        """φ of the step written in terms of ε instead of the network's output."""
        return self.phi if self.noise_from_prediction == 0 else self.phi - self.psi_of_noise * self.noise_from_latents

    @property
    def phi_of_held(self) -> float:
        """φ of the step written in terms of what renoising holds fixed, see `held`."""
        return self.phi if self._holds_prediction else self.phi_of_noise

    @property
    def psi_of_held(self) -> float:
        """ψ of the step written in terms of what renoising holds fixed, see `held`."""
        return self.psi if self._holds_prediction else self.psi_of_noise

    @property
    def takes_regularization(self) -> bool:
        """Whether edit regularization, which changes ε, acts on this step.

        Not where the prediction does not depend on ε. Close to that, for σ > 0.9 of flow matching, a change of ε would
        change v = (ε − z) / (1 − σ) by more than ten times as much.
        """
        if self.flow:
            return self.sigma <= MAX_SIGMA_TO_REGULARIZE
        return self.noise_from_prediction != 0

    @property
    def level(self) -> float:
        """The timestep before the sampler's shift of its noise levels. Without a shift it is `timestep`."""
        return self.timestep if self.unshifted_timestep is None else self.unshifted_timestep

    @property
    def kept_noise(self) -> float:
        """Factor in z_{t-1} of the noise that is in z_t."""
        if self.flow:  # z_{t-1} = φ (signal z_0 + σ ε) + ψ (ε − z_0)
            return self.phi * self.sigma + self.psi
        if self.noise_from_prediction == 0:  # a level of pure noise, where the prediction is of z_0
            return self.phi * self.sigma
        return self.phi_of_noise * self.sigma + self.psi_of_noise

    @property
    def cleaner_level(self) -> tuple[float, float]:
        """Factors of z_0 and of the noise, kept and fresh together, in z_{t-1}."""
        if self.flow:
            signal = self.phi * self.signal - self.psi
        else:
            signal = abs(self.psi) if self.noise_from_prediction == 0 else self.phi_of_noise * self.signal
        return signal, math.hypot(self.kept_noise, self.rho)

    @property
    def _holds_prediction(self) -> bool:
        return self.flow or self.noise_from_prediction == 0

    def _add(self, latents: torch.Tensor, scale: float, noise: torch.Tensor | None) -> torch.Tensor:
        if self.rho == 0:
            return latents
        if noise is None:
            raise ValueError(f"noise must be given: the step at timestep {self.timestep} draws noise (ρ = {self.rho})")
        return latents + scale * noise
