"""The optimization of null-text inversion: an unconditional embedding for every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.progress import track


@dataclass(frozen=True)
class NullTextOptimization:
    """Optimizes the unconditional embedding ∅_t of every step by Adam (Mokady et al., arXiv 2211.09794, section 3.2).

    With guidance, the sampler leaves the trajectory of an inversion without guidance. At each step, ∅_t moves to where
    the guided step from z_t ends on the trajectory again:

        min over ∅_t of ‖z*_{t-1} − (φ z_t + ψ (ε_∅t + s · (ε_c − ε_∅t)) + ρ ε)‖².

    The learning rate falls to half from the first step to the last, and the tolerance grows, as in the published code,
    which the default values are taken from.

    Args:
        iterations: Most iterations of Adam for each step.
        learning_rate: At the first step.
        tolerance: Mean squared error of z_{t-1} at which an image stops, at the first step.
        tolerance_growth: What is added to the tolerance towards the last step.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> from renoise import NullTextOptimization
        >>> NullTextOptimization(iterations=5).learning_rate
        0.01
    """

    iterations: int = 10
    learning_rate: float = 1e-2
    tolerance: float = 1e-5
    tolerance_growth: float = 1e-3

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations must be 1 or more, got {self.iterations}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate must be in (0, 1), got {self.learning_rate}")
        for name in ("tolerance", "tolerance_growth"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")

    @torch.no_grad()
    def run(
        self,
        model: DiffusionModel,
        inversion: Inversion,
        conditioning: Conditioning,
        strength: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Finds the embeddings under which sampling with guidance follows the trajectory, for each image by itself.

        Args:
            model: The model.
            inversion: Of B images, with its trajectory.
            conditioning: Of the images' prompts, with guidance.
            strength: Share of the steps to take, see `Inversion.start`.

        Returns:
            ∅_t of each of these steps, [steps, B, length, D], and the function evaluations of each image, int64 [B].
        """
        if inversion.trajectory is None:
            raise ValueError("inversion must have kept its trajectory: null-text optimization follows it")
        # In float16, Adam's epsilon is 0 and its steps turn NaN.
        embeddings = conditioning.unconditional.prompt_embeds.to(model.state_dtype)
        steps, latents = inversion.start(strength)
        found = []
        nfe = torch.zeros_like(inversion.nfe)
        everyone = torch.arange(len(latents), device=latents.device)
        for step_index in track(steps, "optimizing embeddings"):
            step = inversion.schedule.steps[step_index]
            conditional = model.predict(step.input_scale * latents, step.timestep, conditioning.conditional)
            nfe += 1
            problem = _StepProblem(model, inversion, conditioning, step_index, latents, conditional, nfe)
            progress = step_index / len(inversion.schedule)
            embeddings = self._minimize(problem.errors, embeddings, progress)
            found.append(embeddings)
            latents = problem.denoise(embeddings, everyone)
        return torch.stack(found).to(conditioning.prompt_embeds), nfe

    @torch.enable_grad()
    def _minimize(
        self,
        errors_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        start: torch.Tensor,
        progress: float,
    ) -> torch.Tensor:
        """Returns ∅_t of one step, [B, length, D].

        Args:
            errors_of: (embeddings [B, length, D], index int64 [n]) -> squared errors of some images, [n, N].
            start: The embeddings of the step before, [B, length, D].
            progress: Share of the steps before this one, in [0, 1).
        """
        embeddings = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([embeddings], lr=self.learning_rate * (1 - progress / 2))
        tolerance = self.tolerance + self.tolerance_growth * progress
        index = torch.arange(len(start), device=start.device)
        for _ in range(self.iterations):
            errors = errors_of(embeddings, index)
            moving = ~(errors.mean(dim=1) < tolerance)  # an image that is NaN goes on and stays NaN
            index = index[moving]
            if len(index) == 0:
                break
            # The sum, not the mean: Adam's steps are the same, and in float16 the gradient of the mean would be 0.
            (embeddings.grad,) = torch.autograd.grad(errors.sum(), [embeddings])
            before = embeddings.detach().clone()
            optimizer.step()
            with torch.no_grad():  # Adam's momentum also moves the images that have stopped
                before[index] = embeddings[index]
                embeddings.copy_(before)
        return embeddings.detach()


@dataclass(frozen=True)
class _StepProblem:
    """What one step of null-text optimization minimizes."""

    model: DiffusionModel
    inversion: Inversion
    conditioning: Conditioning
    step_index: int
    latents: torch.Tensor
    """z_t as guided sampling reached it, [B, C, h, w]."""
    conditional: torch.Tensor
    """ε_c at z_t, which does not depend on ∅_t."""
    nfe: torch.Tensor
    """Function evaluations of each image so far, int64 [B]. Updated in place."""

    def denoise(self, embeddings: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Returns z_{t-1} of some images, int64 [n], under ∅_t [B, length, D]."""
        step = self.inversion.schedule.steps[self.step_index]
        self.nfe[index] += 1
        embeddings = embeddings.to(self.conditioning.prompt_embeds)
        branch = replace(self.conditioning, negative_prompt_embeds=embeddings).unconditional.select(index)
        unconditional = self.model.predict(step.input_scale * self.latents[index], step.timestep, branch)
        prediction = self.model.guide([unconditional, self.conditional[index]], self.conditioning.guidance_scale)
        noise = None if self.inversion.noise is None else self.inversion.noise[self.step_index, index]
        return step.denoise(self.latents[index], prediction, noise)

    def errors(self, embeddings: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Returns the squared distances of z_{t-1} of some images from the trajectory, [n, C · h · w]."""
        assert self.inversion.trajectory is not None
        target = self.inversion.trajectory[self.step_index + 1, index]
        return (self.denoise(embeddings, index) - target).square().flatten(1)
