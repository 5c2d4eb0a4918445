"""ReNoise inversion: every step of the sampler, from the cleanest to the noisiest, is inverted by Algorithm 1."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import ClassVar, Literal, get_args

import torch

from renoise.core.anderson import Anderson  # noqa: F401 - a class that is imported can be named in YAML
from renoise.core.budget import CallBudget
from renoise.core.edit_regularization import EditRegularization
from renoise.core.fixed_point import Solver
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights, ReNoiseStep, Renoising
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.errors import InputWarning
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.renoise_run import RenoiseRun
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.utils.progress import track

StochasticSteps = Literal["solve", "posterior"]


class ReNoise(Inverter):
    """ReNoise: Real Image Inversion Through Iterative Noising (arXiv 2403.14602).

    `warm_start`, `solver`, `max_nfe` and `stochastic_steps` go beyond the paper, and are off by default.

    Args:
        iterations: K of the paper: a step takes at most K + 1 network calls. 0 is plain reversal of the sampler. Null
            is 1, or as many as the budget allows where there is `max_nfe`.
        averaging_weights: Weights of the last estimates of every step (the paper's Table 1). Null takes the last one.
        tolerance: An image stops renoising a step once the sampler's step leaves a relative error of at most this. Null
            never stops early. It is raised to what the precision of the run can reach.
        solver: Solver of a step's equation. Null is Renoising, Algorithm 1. Anderson leaves a smaller error.
        regularization: Edit regularization of the predictions (L_edit of the paper). Null leaves them as they are.
        noise_correction: Correction of a stochastic sampler's noise once a step is solved. Null leaves it as drawn.
        warm_start: Whether a step starts at an estimate of the right noise level. It is found from the cleaner steps
            (see `WarmStart`). Without, a step starts at the latents of the step before.
        max_nfe: Most function evaluations of an image. They go where the error is largest. Null is no limit.
        stochastic_iterations: K of the steps that draw noise, where it is to differ. Their corrected noise absorbs the
            error that is left. Null is `iterations`.
        stochastic_steps: How steps that draw noise are inverted. `solve` is the paper's way: the noise is drawn first.
            `posterior` draws the latents and takes the noise that makes the step exact, so that it costs one network
            call and both look like noise (see `draw_latents`). The cleanest step is solved in either case.
        temperature: Scale of what `posterior` draws, from 0 to 1. At 1, z_T is as wide as noise. Below, latents are
            closer to the mean of the posterior: edits keep more of the image, and z_T is narrower than noise.

    Raises:
        ValueError: A value is out of range, or options are combined of which one has no use for the other.

    Example:
        >>> import renoise
        >>> inversion = renoise.ReNoise(iterations=4, tolerance=1e-3)
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=inversion)
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).names
        ['00-cat']
        >>> inversion = renoise.ReNoise(warm_start=True, solver=renoise.Anderson(), max_nfe=8)
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2, inversion=inversion)
        >>> pipeline.invert("data/images/scenes/00-cat.png", "a cat", resolution=64).inversion.nfe
        tensor([8])
    """

    warm_start_order: ClassVar[int] = 1
    """Order of the extrapolation of `warm_start`, see `WarmStart`."""

    def __init__(
        self,
        iterations: int | None = None,
        averaging_weights: AveragingWeights | None = None,
        tolerance: float | None = None,
        solver: Solver | None = None,
        regularization: EditRegularization | None = None,
        noise_correction: NoiseCorrection | None = None,
        warm_start: bool = False,
        max_nfe: int | None = None,
        stochastic_iterations: int | None = None,
        stochastic_steps: StochasticSteps = "solve",
        temperature: float = 1.0,
    ) -> None:
        if max_nfe is not None and max_nfe < 1:
            raise ValueError(f"max_nfe must be 1 or more, or null, got {max_nfe}")
        if stochastic_steps not in get_args(StochasticSteps):
            raise ValueError(f"stochastic_steps must be solve or posterior, got {stochastic_steps!r}")
        if not 0 <= temperature <= 1:
            raise ValueError(f"temperature must be from 0 to 1, got {temperature}")
        self.draws_latents = stochastic_steps == "posterior"
        if temperature != 1 and not self.draws_latents:
            raise ValueError(f"temperature needs stochastic_steps posterior, got {temperature} with {stochastic_steps}")
        self.temperature = temperature
        if self.draws_latents:
            if noise_correction is not None or stochastic_iterations is not None:
                raise ValueError(
                    "noise_correction and stochastic_iterations must be null with stochastic_steps posterior, "
                    "which solves no step that draws noise and makes every noise exact"
                )
            noise_correction = NoiseCorrection("override")  # of the cleanest step, should it draw noise
        if iterations is None:
            iterations = 1 if max_nfe is None else max_nfe
        solver = solver or Renoising()
        self.step = ReNoiseStep(
            iterations, averaging_weights, tolerance, solver, noise_correction, stochastic_iterations
        )
        self.regularization = regularization
        self.warm_start = warm_start
        self.max_nfe = max_nfe
        self._warned = False  # of a tolerance that is beyond the precision: once for all batches

    def check(self, model: DiffusionModel, schedule: Schedule, guidance_scale: float) -> None:
        """Raises ValueError where there is no noise to correct or draw, or where `max_nfe` is too small."""
        needs_noise = {
            "stochastic_steps posterior": self.draws_latents,
            "noise_correction": self.step.noise_correction is not None,
            "stochastic_iterations": self.step.stochastic_iterations is not None,
        }
        for name in (name for name, needed in needs_noise.items() if needed):
            schedule.check_stochastic(name)
        self._evaluations(schedule, 1 if guidance_scale == 1 or model.takes_guidance_scale else 2)

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
        """Inverts B images; see `Inverter.invert`."""
        step = replace(self.step, tolerance=self._reachable_tolerance(latents, model))
        run = RenoiseRun(step, model, schedule, latents, conditioning, rng)
        if self.regularization is not None:
            run.regularize(self.regularization)
        if self.warm_start:
            run.start_warm(self.warm_start_order)
        evaluations = self._evaluations(schedule, conditioning.nfe)
        if evaluations is not None:
            solved = [step for step in schedule if not self._draws(schedule, step)]
            most = [len(self.step.weights(step.level, step.rho != 0)) for step in solved]
            run.budget = CallBudget(solved, evaluations, len(latents), latents.device, self.warm_start, most)
        if keep_trajectory:
            run.keep_trajectory()
        for step_index in track(range(len(schedule))[::-1], "inverting"):
            if self._draws(schedule, schedule.steps[step_index]):
                run.draw_step(step_index, self.temperature)
            else:
                run.solve_step(step_index)
        return run.finish()

    def _draws(self, schedule: Schedule, step: Step) -> bool:
        """Returns whether the latents of a step are drawn. The cleanest step leads to the image, so it is solved."""
        return self.draws_latents and step.rho != 0 and step is not schedule.steps[-1]

    def _evaluations(self, schedule: Schedule, nfe: int) -> int | None:
        """Returns how many evaluations of G an image has for all its steps. None where there is no budget.

        Args:
            schedule: The sampler's steps.
            nfe: Function evaluations of one network call for one image.

        Raises:
            ValueError: There is not one for each step.
        """
        if self.max_nfe is None:
            return None
        drawn = [step for step in schedule if self._draws(schedule, step)]
        solved = [step for step in schedule if not self._draws(schedule, step)]
        other = len(drawn)
        if self.step.noise_correction is not None:
            other += sum(step.rho != 0 for step in solved)
        if self.regularization is not None and self.regularization.needs_target:
            other += sum(step.takes_regularization for step in solved)
        evaluations = self.max_nfe // nfe - other
        if evaluations < len(solved):
            least = nfe * (other + len(solved))
            raise ValueError(
                f"max_nfe must be at least {least} for {len(schedule)} steps with these options, got {self.max_nfe}"
            )
        return evaluations

    def _reachable_tolerance(self, latents: torch.Tensor, model: DiffusionModel) -> float | None:
        """Returns the tolerance, or what the precision of the run can reach where that is larger, with a warning."""
        tolerance, device = self.step.tolerance, latents.device.type
        if tolerance is None:
            return None
        network = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype
        # Both round. The floors that were measured are 0.4 to 0.7 of the sum.
        floor = torch.finfo(network).eps + torch.finfo(latents.dtype).eps
        if tolerance >= floor:
            return tolerance
        if not self._warned:
            self._warned = True
            coarsest = max((latents.dtype, network), key=lambda dtype: torch.finfo(dtype).eps)
            warnings.warn(
                f"tolerance {tolerance:g} is beyond the precision of {coarsest}: steps are solved to {floor:.1e} "
                "instead",
                InputWarning,
                stacklevel=3,
            )
        return floor
