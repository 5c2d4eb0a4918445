"""Exact inversion: samplers of two coupled latents, whose steps are inverted in closed form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.inversion.base import Inversion, Inverter, record_failures
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.precision import widest_float
from renoise.utils.progress import track

NoiseAt = Callable[[int, torch.Tensor], torch.Tensor]
"""(position of a step, z_t [B, C, h, w]) -> the noise ε that the network predicts there, of the same shape."""


class Pair(NamedTuple):
    """What a sampler of two coupled latents knows at one noise level. Both are [B, C, h, w]."""

    latents: torch.Tensor
    companion: torch.Tensor


class ExactInversion(Inverter):
    """Base of the inversion methods whose own sampler is invertible in closed form.

    Such a sampler takes two latents from level to level. Its inverse calls the network at the same latents as the
    sampler does, so the round trip is exact up to rounding, whatever the network predicts. Rounding adds up over the
    steps, so both latents are in float64, whatever the network's type. Beside z_T, an inversion keeps one more latent
    of the same size, `Inversion.companion`. A subclass gives the two directions of one step.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=renoise.EDICT())
        >>> pipeline.inversion.sampler is pipeline.inversion
        True
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.companion.shape
        torch.Size([1, 1, 4, 16, 16])
    """

    needs_same_steps = True

    @property
    def sampler(self) -> ExactInversion:
        """The method itself: it samples what it inverts."""
        return self

    @abstractmethod
    def begin(self, steps: Sequence[Step], latents: torch.Tensor, noise_at: NoiseAt) -> Pair:
        """Returns the pair at the clean end.

        Args:
            steps: The S steps of the schedule, noisiest first.
            latents: z_0, [B, C, h, w].
            noise_at: Calls the network.
        """

    @abstractmethod
    def denoise(self, steps: Sequence[Step], step_index: int, pair: Pair, noise_at: NoiseAt) -> Pair:
        """Takes one step of the sampler.

        Args:
            steps: The S steps of the schedule, noisiest first.
            step_index: Position of the step.
            pair: The pair at the step's noise level.
            noise_at: Calls the network.

        Returns:
            The pair at the next cleaner level.
        """

    @abstractmethod
    def renoise(self, steps: Sequence[Step], step_index: int, pair: Pair, noise_at: NoiseAt) -> Pair:
        """Inverts `denoise`: returns the pair at the step's noise level from the pair at the next cleaner one."""

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError where a step draws noise, or starts from pure noise."""
        name = type(self).__name__
        if schedule.is_stochastic:
            drawing = sum(step.rho != 0 for step in schedule)
            raise ValueError(
                f"{name} needs a sampler that draws no noise, such as DDIMScheduler with eta 0 or "
                f"EulerDiscreteScheduler, and this one draws noise at {drawing} of {len(schedule)} steps; for such a "
                "sampler take ReNoise or EditFriendlyInversion"
            )
        for step in schedule:
            if step.flow:
                raise ValueError(
                    f"{name} works with the predicted noise, which is not defined where flow matching starts; take "
                    "ReNoise"
                )
            if step.noise_from_prediction == 0:
                raise ValueError(
                    f"{name} works with the predicted noise, which is not defined at timestep {step.timestep:g}: its "
                    "latents are pure noise. Set scheduler_options.rescale_betas_zero_snr to false, or take ReNoise"
                )

    @torch.no_grad()
    def invert(
        self,
        model: DiffusionModel,
        schedule: Schedule,
        latents: torch.Tensor,
        conditioning: Conditioning,
        rng: ImageRNG,
        keep_trajectory: bool = False,
    ) -> Inversion:
        """Inverts B images; see `Inverter.invert`. The result is in `widest_float`."""
        dtype = widest_float(latents.device)
        latents = latents.to(dtype).contiguous()  # as after loading: convolutions round by memory format
        nfe = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)

        def noise_at(step_index: int, noisy: torch.Tensor) -> torch.Tensor:
            nfe.add_(conditioning.nfe)
            step = schedule.steps[step_index]
            return step.predicted_noise(noisy, model.predict(step.input_scale * noisy, step.timestep, conditioning))

        pairs = [self.begin(schedule.steps, latents, noise_at)]
        for step_index in track(range(len(schedule))[::-1], "inverting"):
            pair = self.renoise(schedule.steps, step_index, pairs[-1], noise_at)
            pairs = [*pairs, pair] if keep_trajectory else [pair]
        noisiest_first = pairs[::-1]
        inversion = Inversion(
            noisiest_first[0].latents.clone(),
            schedule,
            conditioning,
            nfe=nfe,
            companion=torch.stack([pair.companion for pair in noisiest_first]),
            sampler=self,
        )
        if keep_trajectory:
            inversion.trajectory = torch.stack([pair.latents for pair in noisiest_first])
        record_failures(inversion)
        return inversion

    @torch.no_grad()
    def sample(
        self,
        inversion: Inversion,
        predict: Callable[[float, torch.Tensor], torch.Tensor],
        strength: float = 1.0,
    ) -> torch.Tensor:
        """Runs the sampler from z_T to z_0 under any prediction; see `walk`, which calls it."""
        assert inversion.companion is not None

        def noise_at(step_index: int, latents: torch.Tensor) -> torch.Tensor:
            return schedule.steps[step_index].predicted_noise(latents, predict(step_index, latents))

        schedule = inversion.schedule
        steps, latents = inversion.start(strength)
        if len(steps) == 0:
            return latents
        pair = Pair(latents, inversion.companion[steps.start])
        for step_index in track(steps, "sampling"):
            pair = self.denoise(schedule.steps, step_index, pair, noise_at)
        return pair.latents


class TwoStepInversion(ExactInversion):
    """Base of the methods whose sampler computes z_{t-1} from z_t and from the latents before, z_{t+1}.

    The companion of z_t is z_{t+1}. No latents come before z_T, so its companion is z_{T-1}: sampling reads the first
    step, which an edit therefore does not change. Inversion begins with z_0 and a z_1 by plain reversal, which need not
    be exact. It takes one network call for each of the S steps, and sampling takes S − 1.

    Example:
        >>> import renoise
        >>> from renoise.inversion.exact import TwoStepInversion
        >>> issubclass(renoise.BDIA, TwoStepInversion)
        True
    """

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError as `ExactInversion.check` does, and where there is one step, which would only be read."""
        super().check(model, schedule, guidance_scale)
        if len(schedule) < 2:
            raise ValueError(f"{type(self).__name__} needs num_inference_steps of 2 or more, got {len(schedule)}")

    @abstractmethod
    def cleaner(self, steps: Sequence[Step], step_index: int, pair: Pair, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_{t-1} from (z_t, z_{t+1}) and the noise predicted at z_t."""

    @abstractmethod
    def noisier(self, steps: Sequence[Step], step_index: int, pair: Pair, noise: torch.Tensor) -> torch.Tensor:
        """Returns z_{t+1} from (z_{t-1}, z_t) and the noise predicted at z_t."""

    def begin(self, steps: Sequence[Step], latents: torch.Tensor, noise_at: NoiseAt) -> Pair:
        """Returns z_0, and z_1 by plain reversal of the last step."""
        last = len(steps) - 1
        return Pair(latents, renoise_by(steps[last], latents, noise_at(last, latents)))

    def denoise(self, steps: Sequence[Step], step_index: int, pair: Pair, noise_at: NoiseAt) -> Pair:
        """Takes one step; see `ExactInversion.denoise`. The first one is read from the companion."""
        if step_index == 0:
            return Pair(pair.companion, pair.latents)
        noise = noise_at(step_index, pair.latents)
        return Pair(self.cleaner(steps, step_index, pair, noise), pair.latents)

    def renoise(self, steps: Sequence[Step], step_index: int, pair: Pair, noise_at: NoiseAt) -> Pair:
        """Inverts `denoise`."""
        if step_index == 0:
            return Pair(pair.companion, pair.latents)
        noise = noise_at(step_index, pair.companion)
        return Pair(pair.companion, self.noisier(steps, step_index, pair, noise))


def denoise_by(step: Step, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Returns z_{t-1} of the plain step from z_t with the noise ε: φ z_t + ψ ε, written in terms of ε."""
    return step.phi_of_noise * latents + step.psi_of_noise * noise


def renoise_by(step: Step, previous: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Returns z_t of the plain step to z_{t-1} with the noise ε, the inverse of `denoise_by`."""
    return (previous - step.psi_of_noise * noise) / step.phi_of_noise
