"""Null-text inversion (Mokady et al., arXiv 2211.09794): the unconditional embedding of every step, optimized.

With guidance the sampler leaves the path that inversion without guidance took. At each step the embedding ∅_t of the
unconditional branch is moved to where the guided step from z_t ends on that path again,

    min over ∅_t of ‖z*_{t-1} − (φ z_t + ψ (ε_∅t + s · (ε_c − ε_∅t)) + ρ ε)‖².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from renoise.inversion.base import Inversion, Inverter
from renoise.models.base import Conditioning, DiffusionModel, guide


@dataclass(frozen=True)
class NullTextOptimization:
    """How every step's embedding is optimized, by Adam; the values are the published code's.

    From the first step to the last the rate falls towards half of itself, and the error at which an image is left alone
    grows: later steps have less to put right.

    Args:
        iterations: at most, per step.
        learning_rate: at the first step.
        tolerance: mean squared error of z_{t-1} from which on an image is left alone, at the first step.
        tolerance_growth: what is added to it towards the last.
    """

    iterations: int = 10
    learning_rate: float = 1e-2
    tolerance: float = 1e-5
    tolerance_growth: float = 1e-3

    def run(
        self, model: DiffusionModel, inversion: Inversion, conditioning: Conditioning, strength: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The embeddings under which sampling with guidance keeps to the trajectory, each image's by itself.

        Args:
            model: the model.
            inversion: of B images, with its trajectory.
            conditioning: of the images' prompts, with guidance.
            strength: share of the steps to go, see `Inversion.start`.

        Returns:
            ∅_t of each of these steps, [steps, B, length, D], and the network rows that each image took, int64 [B].
        """
        if inversion.trajectory is None:
            raise ValueError("null-text optimization needs an inversion that kept its trajectory")
        # In float16 Adam's epsilon is 0 and its steps turn NaN.
        embeddings = conditioning.unconditional.prompt_embeds.to(model.state_dtype)
        steps, latents = inversion.start(strength)
        found, nfe = [], torch.zeros_like(inversion.nfe)
        everyone = torch.arange(len(latents), device=latents.device)
        for index in steps:
            step = inversion.schedule.steps[index]
            inputs = step.input_scale * latents
            toward = model.predict(inputs, step.timestep, conditioning.conditional)
            nfe += 1
            problem = _Step(model, inversion, conditioning, index, latents, toward, nfe)
            embeddings = self._optimize(problem, embeddings)
            found.append(embeddings)
            latents = problem.denoise(embeddings, everyone)
        return torch.stack(found).to(conditioning.prompt_embeds), nfe

    @torch.enable_grad()
    def _optimize(self, problem: _Step, start: torch.Tensor) -> torch.Tensor:
        """∅_t of one step, [B, length, D], from that of the step before."""
        progress = problem.index / len(problem.inversion.schedule)
        embeddings = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([embeddings], lr=self.learning_rate * (1 - progress / 2))
        rows = torch.arange(len(start), device=start.device)
        for _ in range(self.iterations):
            errors = problem.errors(embeddings, rows)
            rows = rows[~(errors < self.tolerance + self.tolerance_growth * progress)]  # NaN goes on, and stays NaN
            if len(rows) == 0:
                break
            optimizer.zero_grad()
            # The squares, not their mean: Adam takes either, and float16 would lose the mean's gradient.
            (errors.sum() * problem.latents[0].numel()).backward()
            settled = embeddings.detach().clone()
            optimizer.step()
            with torch.no_grad():  # Adam's momentum would carry those on that are done
                settled[rows] = embeddings[rows]
                embeddings.copy_(settled)
        return embeddings.detach()


@dataclass(frozen=True)
class _Step:
    """The problem that one step poses."""

    model: DiffusionModel
    inversion: Inversion
    conditioning: Conditioning
    index: int
    latents: torch.Tensor
    """z_t as guided sampling reached it, [B, C, h, w]."""
    toward: torch.Tensor
    """ε_c there, the same for every ∅_t."""
    nfe: torch.Tensor
    """Rows that each image took so far, int64 [B]; counted on."""

    def denoise(self, embeddings: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """z_{t-1} of some images, int64 [n], under ∅_t [B, length, D]."""
        step = self.inversion.schedule.steps[self.index]
        self.nfe[rows] += 1
        embeddings = embeddings.to(self.conditioning.prompt_embeds)
        told = replace(self.conditioning, negative_prompt_embeds=embeddings).unconditional.select(rows)
        away = self.model.predict(step.input_scale * self.latents[rows], step.timestep, told)
        prediction = guide([away, self.toward[rows]], self.conditioning.guidance_scale)
        noise = None if self.inversion.noise is None else self.inversion.noise[self.index, rows]
        return step.denoise(self.latents[rows], prediction, noise)

    def errors(self, embeddings: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of z_{t-1} from the trajectory, of some images, [n]."""
        assert self.inversion.trajectory is not None
        goal = self.inversion.trajectory[self.index + 1, rows]
        return (self.denoise(embeddings, rows) - goal).square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class NullTextInverter:
    """Inverts batches without guidance, then optimizes the unconditional embedding for the way back with it.

    Args:
        inverter: of the path.
        optimization: of the embeddings.
    """

    inverter: Inverter
    optimization: NullTextOptimization = NullTextOptimization()

    @torch.no_grad()
    def invert(self, latents: torch.Tensor, conditioning: Conditioning, images: Sequence[str]) -> Inversion:
        """Inverts B images at once, `conditioning` with guidance; arguments as of `Inverter.invert`."""
        inverter = replace(self.inverter, keep_trajectory=True)
        inversion = inverter.invert(latents, conditioning.conditional, images)
        found, nfe = self.optimization.run(self.inverter.model, inversion, conditioning)
        return replace(
            inversion,
            conditioning=conditioning,
            nfe=inversion.nfe + nfe,
            trajectory=inversion.trajectory if self.inverter.keep_trajectory else None,
            null_embeddings=found,
        )
