"""Inversion methods for flow matching, against the exact flow of Gaussian data and against plain loops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from helpers.random_network import RandomNetwork, prompts
from helpers.stable_diffusion_3 import random_pipeline
from renoise_plugins.negative_prompt import NegativePrompt
from renoise_plugins.prompt_swap import PromptSwap

import renoise
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter
from renoise.inversion.ddim import DDIM
from renoise.inversion.fireflow import FireFlow
from renoise.inversion.flow import FlowInversion, MidpointInversion, Velocity
from renoise.inversion.renoise import ReNoise
from renoise.inversion.rf_inversion import RFInversion
from renoise.inversion.rf_solver import RFSolver
from renoise.inversion.sampling import sample
from renoise.inversion.uni_inv import UniInv
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning

SPREAD = 0.6
"""Standard deviation s of the data."""
IMAGES = torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OWN_SAMPLERS = [RFSolver(), FireFlow(), RFInversion()]
each_sampler = pytest.mark.parametrize("method", OWN_SAMPLERS, ids=lambda method: type(method).__name__)


class GaussianFlow:
    """v of data N(0, s²): (σ − (1 − σ) s²) / D · z, where D = (1 − σ)² s² + σ². The exact solution is √D · constant."""

    def growth(self, sigma: float) -> float:
        """Returns z_σ as a multiple of what it solves from."""
        return math.sqrt((1 - sigma) ** 2 * SPREAD**2 + sigma**2)

    def rate(self, sigma: float) -> float:
        return (sigma - (1 - sigma) * SPREAD**2) / self.growth(sigma) ** 2

    def predict(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        return self.rate(timestep / 1000) * latents


class ExponentialFlow(GaussianFlow):
    """v = 2 σ z, whose exact solution is exp(σ²) · constant."""

    def growth(self, sigma: float) -> float:
        return math.exp(sigma**2)

    def rate(self, sigma: float) -> float:
        return 2 * sigma


def schedule(steps: int, shift: float = 1.0, stochastic: bool = False) -> Schedule:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=stochastic)
    return Schedule.from_scheduler(scheduler, steps)


def inverted(
    method: Inverter,
    network: GaussianFlow | RandomNetwork,
    steps: Schedule,
    keep_trajectory: bool = False,
    images: Sequence[int] = (0, 1),
) -> Inversion:
    rng = ImageRNG(0, ["cat", "dog"]).select(images)
    conditioning = prompts(0.3, -0.2).select(torch.tensor(images))
    model = cast(DiffusionModel, network)
    return method.invert(model, steps, IMAGES[list(images)], conditioning, rng, keep_trajectory)


def sampled(network: GaussianFlow | RandomNetwork, inversion: Inversion, strength: float = 1.0) -> torch.Tensor:
    return sample(cast(DiffusionModel, network), inversion, strength=strength)


def partial_steps(count: int) -> Schedule:
    """Returns equal steps from σ = 0.8 to 0.3."""
    levels = [0.8 - 0.5 * index / count for index in range(count + 1)]
    steps = [
        Step(1000 * level, 1.0, cleaner - level, 0.0, 1.0, 1 - level, level, 1.0, 1 - level, flow=True)
        for level, cleaner in pairwise(levels)
    ]
    return Schedule(tuple(steps), 1.0)


def errors(method: Inverter, steps: int, flow: GaussianFlow) -> tuple[float, float]:
    """Returns the relative errors of inverting, and of sampling from the exact latents at the noisy end."""
    inversion = inverted(method, flow, partial_steps(steps))
    found = inversion.latents
    inversion.latents = IMAGES * flow.growth(0.8) / flow.growth(0.3)
    sampled_images = sampled(flow, inversion)
    return float((found / inversion.latents - 1).abs().max()), float((sampled_images / IMAGES - 1).abs().max())


ORDERS = [(RFSolver(), 2), (FireFlow(), 2), (DDIM(), 1), (RFInversion(0, 0), 1)]


def orders(method: Inverter, flow: GaussianFlow) -> list[float]:
    """Returns the orders of the error in both directions."""
    pairs = zip(errors(method, 40, flow), errors(method, 80, flow), strict=True)
    return [math.log2(coarse / fine) for coarse, fine in pairs]


@pytest.mark.parametrize(("method", "order"), ORDERS)
def test_the_error_falls_with_the_order_of_the_method_in_both_directions(method: Inverter, order: int) -> None:
    assert orders(method, ExponentialFlow()) == pytest.approx([order, order], abs=0.2)


@pytest.mark.parametrize(("method", "order"), [(RFSolver(), 3), *ORDERS[1:]])
def test_on_gaussian_data_the_midpoint_rule_is_of_third_order(method: Inverter, order: int) -> None:
    """Its leading error is (a'' + 6 a a' + 4 a³) / 24 for dz/dσ = a z: the third derivative of z² = D, which is 0."""
    assert orders(method, GaussianFlow()) == pytest.approx([order, order], abs=0.25)


class LostHalf(MidpointInversion):
    """Calls the network at the start of the step where it should be the middle."""

    reuses_midpoint = False

    def solve(
        self, schedule: Schedule, positions: Sequence[int], latents: torch.Tensor, velocity: Velocity
    ) -> Iterator[torch.Tensor]:
        ahead = 0 if positions[1] > positions[0] else 0.5  # a middle is half a position above the start, or below it
        return super().solve(schedule, positions, latents, lambda at, z: velocity(int(at + ahead), z))


class StaleVelocity(RFSolver):
    """Reuses the velocity at the start of the step before, and not the one at its middle."""

    def solve(
        self, schedule: Schedule, positions: Sequence[int], latents: torch.Tensor, velocity: Velocity
    ) -> Iterator[torch.Tensor]:
        starts: list[torch.Tensor] = []

        def stale(at: float, z: torch.Tensor) -> torch.Tensor:
            prediction = velocity(at, z)
            if at != int(at):
                return prediction
            starts.append(prediction)
            return starts[-2] if len(starts) > 1 else prediction

        return super().solve(schedule, positions, latents, stale)


def test_the_test_of_the_order_finds_a_lost_half_step() -> None:
    assert max(orders(LostHalf(), ExponentialFlow())) < 1.5


def test_fireflow_is_midpoint_steps_from_the_velocity_of_the_last_middle() -> None:
    network, steps = RandomNetwork(), schedule(5)
    inversion = inverted(FireFlow(), network, steps)
    latents, conditioning, level, reused = IMAGES, prompts(0.3, -0.2), 0.0, None
    for step in reversed(steps):
        middle = (level + step.sigma) / 2
        first = network.predict(latents, 1000 * level, conditioning) if reused is None else reused
        reused = network.predict(latents + (middle - level) * first, 1000 * middle, conditioning)
        latents, level = latents + (step.sigma - level) * reused, step.sigma
    torch.testing.assert_close(inversion.latents, latents, rtol=1e-5, atol=1e-6)
    for wrong in (LostHalf(), StaleVelocity(), RFSolver()):
        assert not torch.allclose(inverted(wrong, network, steps).latents, latents, atol=1e-4)


@pytest.mark.parametrize(("method", "calls"), [(UniInv(), 5), (RFInversion(), 5), (RFSolver(), 10), (FireFlow(), 6)])
def test_the_number_of_network_calls_in_both_directions(method: Inverter, calls: int) -> None:
    network = RandomNetwork()
    inversion = inverted(method, network, schedule(5))
    assert len(network.timesteps) == calls
    assert inversion.nfe.tolist() == [calls, calls]
    network.timesteps.clear()
    sampled(network, inversion)
    assert len(network.timesteps) == (5 if isinstance(method, UniInv) else calls)


def test_a_position_between_two_steps_is_halfway_in_sigma_and_time() -> None:
    steps = schedule(4, shift=3.0)
    for index, step in enumerate(steps):
        half = steps.at(index + 0.5)
        assert half.sigma == pytest.approx(step.sigma + step.psi / 2)
        assert half.timestep == pytest.approx(1000 * half.sigma, rel=1e-5)
        assert half.psi == pytest.approx(step.psi / 2)
        assert (half.signal, half.noise_from_prediction) == (1 - half.sigma, 1 - half.sigma)
        assert steps.at(index) is step
    assert steps.at(4).sigma == steps.at(4).timestep == 0


@each_sampler
def test_an_image_does_not_depend_on_its_batch(method: FlowInversion) -> None:
    network = RandomNetwork()
    both = inverted(method, network, schedule(4))
    alone = inverted(method, network, schedule(4), images=[1])
    torch.testing.assert_close(alone.latents, both.latents[1:])
    torch.testing.assert_close(sampled(network, both.select([1])), sampled(network, both)[1:])


@each_sampler
def test_half_the_steps_from_the_trajectory_are_the_second_half_of_the_sampler(method: FlowInversion) -> None:
    network, steps = RandomNetwork(), schedule(4)
    inversion = inverted(method, network, steps, keep_trajectory=True)
    assert inversion.trajectory is not None
    assert torch.equal(inversion.trajectory[0], inversion.latents)
    assert torch.equal(inversion.trajectory[-1], IMAGES)
    network.timesteps.clear()
    half = sampled(network, inversion, strength=0.5)
    assert network.timesteps[0] == steps.steps[2].timestep
    assert float((half - IMAGES).norm() / IMAGES.norm()) < 0.5


def test_uni_inv_takes_the_last_velocity_to_the_level_where_it_calls_the_network() -> None:
    network, steps = RandomNetwork(), schedule(5)
    latents, before = IMAGES, None
    for step in reversed(steps):
        start = latents if before is None else latents - step.psi * before
        before = RandomNetwork().predict(start, step.timestep, prompts(0.3, -0.2))
        latents = latents - step.psi * before
    found = inverted(UniInv(), network, steps).latents
    torch.testing.assert_close(found, latents)
    linear = inverted(ReNoise(0, warm_start=True), network, steps).latents
    assert not torch.allclose(found, linear, atol=1e-4)


def test_uni_inv_is_renoise_with_a_warm_start_where_the_velocity_is_constant() -> None:
    class Constant(RandomNetwork):
        def predict(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
            return super().predict(torch.zeros_like(latents), 0.0, conditioning)

    found = inverted(UniInv(), Constant(), schedule(5)).latents
    torch.testing.assert_close(found, inverted(ReNoise(0, warm_start=True), Constant(), schedule(5)).latents)
    assert not torch.allclose(found, IMAGES, atol=0.1)


def test_rf_inversion_without_control_is_eulers_method() -> None:
    network, steps = RandomNetwork(), schedule(5)
    inversion = inverted(RFInversion(gamma=0, eta=0), network, steps)
    latents, level, timestep = IMAGES, 0.0, 0.0
    for step in reversed(steps):
        latents = latents + (step.sigma - level) * network.predict(latents, timestep, prompts(0.3, -0.2))
        level, timestep = step.sigma, step.timestep
    torch.testing.assert_close(inversion.latents, latents, rtol=1e-5, atol=1e-6)
    plain = Inversion(inversion.latents, steps, inversion.conditioning)
    torch.testing.assert_close(sampled(network, inversion), sampled(network, plain), rtol=1e-5, atol=1e-6)


def test_rf_inversion_under_full_control_ends_at_its_noise_and_at_the_image() -> None:
    network = RandomNetwork()
    inversion = inverted(RFInversion(gamma=1, eta=1, stop=1), network, schedule(5))
    noise = ImageRNG(0, ["cat", "dog"]).normal("RF-Inversion", [4, 4, 4])
    torch.testing.assert_close(inversion.latents, noise.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sampled(network, inversion), IMAGES, rtol=1e-5, atol=1e-6)
    early = inverted(RFInversion(gamma=1, eta=1, stop=0.5), network, schedule(5))
    assert not torch.allclose(sampled(network, early), IMAGES, atol=0.05)


@each_sampler
def test_an_image_that_turns_nan_fails_alone(method: FlowInversion) -> None:
    class Broken(RandomNetwork):
        def predict(self, latents: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
            prediction = super().predict(latents, timestep, conditioning)
            return prediction.index_fill(0, torch.tensor([1]), torch.nan) if timestep > 500 else prediction

    inversion = inverted(method, Broken(), schedule(4))
    assert inversion.failures == {1: f"the latents turned NaN or infinite in {type(method).__name__}"}
    assert bool(inversion.latents[0].isfinite().all())


@each_sampler
def test_other_models_and_stochastic_samplers_are_refused(method: FlowInversion) -> None:
    model, name = RandomNetwork().model, type(method).__name__
    ddim = Schedule.from_scheduler(DDIMScheduler(clip_sample=False), 2)
    with pytest.raises(ValueError, match=f"^{name} needs a flow-matching model, and this one is not; take ReNoise"):
        method.check(model, ddim, 1.0)
    with pytest.raises(ValueError, match=f"^{name} needs a sampler that draws no noise; set scheduler_options"):
        method.check(model, schedule(2, stochastic=True), 1.0)


@pytest.mark.parametrize("option", ["gamma", "eta", "start", "stop"])
def test_a_value_of_rf_inversion_out_of_range_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option} must be from 0 to 1, got 1\.5$"):
        RFInversion(**{option: 1.5})
    with pytest.raises(ValueError, match=r"^stop must be start \(0\.5\) or more, got 0\.25$"):
        RFInversion(start=0.5)


@each_sampler
def test_images_are_inverted_saved_loaded_and_edited(method: FlowInversion, tmp_path: Path) -> None:
    pipeline = renoise.load(random_pipeline(), num_inference_steps=3, inversion=method)
    inverted = pipeline.invert(torch.rand(3, 16, 16), "a cat")
    inverted.save(tmp_path / "cat.safetensors")
    loaded = renoise.load_inversion(tmp_path / "cat.safetensors", pipeline)
    assert type(loaded.inversion.sampler) is type(method)
    before, after = (sample(pipeline.model, each.inversion) for each in (inverted, loaded))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    rebuilt = np.asarray(inverted.reconstruct()[0], dtype=float)
    swap, kept = PromptSwap({"cat": "dog"}), NegativePrompt({"cat": "dog"}, guidance_scale=0.0)
    swapped, same = (np.asarray(inverted.edit("a dog", editor=each)[0], dtype=float) for each in (swap, kept))
    assert np.abs(swapped - rebuilt).max() > 0
    assert np.abs(same - rebuilt).max() <= 1
    with pytest.raises(InputError, match="num_inversion_steps must be null or 3"):
        renoise.load(random_pipeline(), num_inference_steps=3, num_inversion_steps=6, inversion=method)
