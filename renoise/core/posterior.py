"""Draws the latents of a stochastic step from the sampler's own posterior, so that nothing has to be solved."""

from __future__ import annotations

import torch

from renoise.core.step import Step


def draw_latents(step: Step, previous: torch.Tensor, image: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """Draws z_t given z_{t-1} and z_0, [B, C, h, w].

    A step that draws noise is exact from any z_t, with the noise ε* that `exact_noise` returns. So z_t is free, and is
    chosen such that z_t and ε* both look like noise. While the sampler makes an image,

        z_t     = signal · z_0 + sigma · ε
        z_{t-1} = signal' · z_0 + sigma' · e  with  signal' = φ signal,  sigma' e = (φ sigma + ψ) ε + ρ ε_t,

    where ε and ε_t are independent. Given e, ε is normal: with ξ ~ N(0, I),

        ε = ((φ sigma + ψ) e + ρ ξ) / sigma',  sigma'² = (φ sigma + ψ)² + ρ².

    This is the DPM-Encoder of CycleDiffusion (arXiv 2210.05559) for any sampler with affine steps. Where the network
    predicts ε well, ε* is close to the noise ε_t that belongs to it, and has a standard deviation of about 1.

    Args:
        step: A step with ρ other than 0.
        previous: z_{t-1}, at a level with noise.
        image: z_0.
        fresh: ξ, standard normal. Times a temperature below 1, latents are closer to the mean of the posterior.
    """
    cleaner_signal, cleaner_sigma = step.cleaner_level
    kept = step.kept_noise / cleaner_sigma
    mixed = (previous - cleaner_signal * image) / cleaner_sigma  # e
    return step.add_noise(image, kept * mixed + step.rho / cleaner_sigma * fresh)
