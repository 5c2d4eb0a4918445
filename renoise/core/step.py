"""One step of a single-step sampler and its inverse: the formula that everything else rests on.

z_{t-1} = φ_t · z_t + ψ_t · ε_θ(z_t, t, c) + ρ_t · ε_t
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Step:
    """One step of the sampler, from level t to the next cleaner one.

    `phi`, `psi`, `rho` follow the module's equation; `input_scale` times the latents is the network's input
    (`scheduler.scale_model_input`). Noised to this level, z_0 is `signal` · z_0 + `sigma` · noise. The noise that the
    network sees in z_t is `noise_from_latents` · z_t + `noise_from_prediction` · prediction: (0, 1) if it predicts ε.
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

    def denoise(self, latents: torch.Tensor, prediction: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """z_{t-1} = φ z_t + ψ ε_θ + ρ ε. `noise` may be None where ρ = 0."""
        return self._with_noise(self.phi * latents + self.psi * prediction, noise, self.rho)

    def renoise(self, previous: torch.Tensor, prediction: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """z_t = (z_{t-1} − ψ ε_θ − ρ ε) / φ, the inverse of `denoise` under the same prediction and noise."""
        return self._with_noise(previous - self.psi * prediction, noise, -self.rho) / self.phi

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """z_0 noised to this level."""
        return self.signal * latents + self.sigma * noise

    def renoise_from(
        self,
        previous: torch.Tensor,
        estimate: torch.Tensor,
        prediction: torch.Tensor,
        noise: torch.Tensor | None,
    ) -> torch.Tensor:
        """z_t from a prediction made at `estimate`, holding fixed the noise ε that the prediction sees there.

        Of an ε-predicting network that is `renoise`. Of a v- or z_0-predicting one it is the iteration that ε would
        make: held fixed itself, v would be divided by a φ near 0 and renoising diverge.
        """
        if self.noise_from_prediction == 0:
            return self.renoise(previous, prediction, noise)
        psi = self.psi / self.noise_from_prediction
        phi = self.phi - psi * self.noise_from_latents
        return self._with_noise(previous - psi * self.predicted_noise(estimate, prediction), noise, -self.rho) / phi

    def predicted_noise(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """The noise ε that a prediction sees in z_t = `latents`; of an ε-predicting network, the prediction itself."""
        return self.noise_from_latents * latents + self.noise_from_prediction * prediction

    def prediction_of_noise(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The prediction that sees `noise` in z_t, the inverse of `predicted_noise`.

        Not defined where the prediction says nothing of the noise: v at a level that is pure noise.
        """
        return (noise - self.noise_from_latents * latents) / self.noise_from_prediction

    def _with_noise(self, latents: torch.Tensor, noise: torch.Tensor | None, scale: float) -> torch.Tensor:
        if self.rho == 0:
            return latents
        if noise is None:
            raise ValueError(f"the step at timestep {self.timestep} is stochastic (ρ = {self.rho}) and needs its noise")
        return latents + scale * noise
