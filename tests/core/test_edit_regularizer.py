from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler, SchedulerMixin
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.edit_regularization import EditRegularization
from renoise.core.edit_regularizer import EditRegularizer, StepRegularizer
from renoise.core.renoise import AveragingWeights
from renoise.core.rng import ImageRNG
from renoise.core.schedule import Schedule
from renoise.core.step import Step
from renoise.inversion.base import Inversion
from renoise.inversion.renoise import ReNoise
from renoise.models.conditioning import Conditioning

PAIR = EditRegularization(lambda_pair=10)
PATCH_KL = EditRegularization(lambda_patch_kl=0.055)
PAPER = EditRegularization(lambda_pair=10, lambda_patch_kl=0.055)
EVERYTHING = EditRegularization(lambda_pair=20, lambda_patch_kl=0.075, lambda_kl=1)
NAMES = ["a.png", "b.png", "c.png"]
SHAPE = (4, 8, 8)
AVERAGED = AveragingWeights(below=[0.5, 0.5], above=[0.5, 0.5], max_iterations_below=1)


def schedule_of(kind: Callable[..., SchedulerMixin], steps: int = 4, **options: Any) -> Schedule:
    stable_diffusion = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    clipping = {} if kind is EulerAncestralDiscreteScheduler else {"clip_sample": False}
    return Schedule.from_scheduler(kind(**stable_diffusion, **clipping, timestep_spacing="trailing", **options), steps)


def latents(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def answer(points: torch.Tensor, timestep: float) -> torch.Tensor:
    """Smooth, and far enough from white noise for the regularization to change it."""
    return torch.tanh(points) + 0.3 * points.roll(1, dims=-1) + timestep / 2000


class Network:
    """Predicts as a network at one timestep does. Remembers the index and the latents of each call."""

    def __init__(self, timestep: float = 500) -> None:
        self.timestep = timestep
        self.index: list[list[int]] = []
        self.latents: list[torch.Tensor] = []

    def __call__(self, points: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        self.index.append(index.tolist())
        self.latents.append(points)
        return answer(points, self.timestep)


class FakeModel:
    """What an inversion needs of a model. Remembers the batch size of each call."""

    def __init__(self, predict: Callable[[torch.Tensor, float], torch.Tensor] = answer) -> None:
        self.answer = predict
        self.calls: list[int] = []

    def predict(self, points: torch.Tensor, timestep: float, conditioning: Conditioning) -> torch.Tensor:
        assert len(conditioning.prompt_embeds) == len(points)
        self.calls.append(len(points))
        return self.answer(points, timestep)


def inverted(
    schedule: Schedule,
    regularization: EditRegularization | None,
    model: FakeModel | None = None,
    weights: AveragingWeights | None = None,
) -> Inversion:
    conditioning = Conditioning(torch.zeros(3, 1, 1), None, 1.0)
    inverter = ReNoise(2, weights, regularization=regularization)
    return inverter.invert(cast(Any, model or FakeModel()), schedule, latents(), conditioning, ImageRNG(0, NAMES))


def regularizer_of(
    regularization: EditRegularization,
    schedule: Schedule,
    names: list[str] = NAMES,
    clean: torch.Tensor | None = None,
    seed: int = 0,
) -> EditRegularizer:
    z_0 = latents(len(names)) if clean is None else clean
    return EditRegularizer(regularization, schedule, 3, z_0, ImageRNG(seed, names))


def test_patch_kl_takes_one_function_evaluation_more_per_image_and_step_in_the_first_call() -> None:
    schedule, model = schedule_of(DDIMScheduler), FakeModel()
    inversion = inverted(schedule, PAPER, model)
    assert model.calls == [6, 3, 3] * 4
    assert inversion.nfe.tolist() == [4 * (3 + 1)] * 3


@pytest.mark.parametrize("regularization", [None, PAIR, EditRegularization(lambda_kl=1)])
def test_without_patch_kl_no_function_evaluation_is_added(regularization: EditRegularization | None) -> None:
    schedule, model = schedule_of(DDIMScheduler), FakeModel()
    inversion = inverted(schedule, regularization, model)
    assert model.calls == [3, 3, 3] * 4
    assert inversion.nfe.tolist() == [4 * 3] * 3


def test_the_target_is_predicted_only_for_images_that_have_not_failed() -> None:
    network, alive = Network(), torch.tensor([0, 2])
    step = regularizer_of(PATCH_KL, schedule_of(DDIMScheduler)).at(1, alive, network)
    step.predict(latents(2), torch.arange(2))
    step.predict(latents(1), torch.tensor([1]))
    assert network.index == [[0, 2, 0, 2], [2]]


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_the_targets_are_predictions_of_the_image_noised_with_one_noise_at_all_levels(
    kind: Callable[..., SchedulerMixin],
) -> None:
    schedule, clean = schedule_of(kind, prediction_type="v_prediction"), latents(8)
    regularizer = regularizer_of(PATCH_KL, schedule, [str(number) for number in range(8)], clean)
    noises = []
    for position, step in enumerate(schedule):
        network, alive = Network(), torch.tensor([0, 1, 4, 7])
        of_step = regularizer.at(position, alive, network)
        prediction = of_step.predict(latents(4), torch.arange(4))
        estimates, noised = network.latents[0].chunk(2)
        assert torch.equal(estimates, latents(4))
        torch.testing.assert_close(prediction, answer(estimates, 500))
        noises.append((noised - step.signal * clean[alive]) / step.sigma)
        torch.testing.assert_close(of_step.target, step.predicted_noise(noised, answer(noised, 500)))
    for noise in noises[1:]:
        torch.testing.assert_close(noise, noises[0])
    assert abs(float(noises[0].mean())) < 0.1
    assert abs(float(noises[0].std()) - 1) < 0.1


def test_each_image_moves_to_its_own_target() -> None:
    schedule = schedule_of(DDIMScheduler)
    together = regularizer_of(PAPER, schedule).at(1, torch.arange(3), Network())
    prediction = together.predict(latents(), torch.arange(3))
    some = torch.tensor([2, 0])
    expected = together.regularize(prediction, latents(), torch.arange(3), 1)[some]
    torch.testing.assert_close(together.regularize(prediction[some], latents()[some], some, 1), expected)
    for image in range(3):
        alone = regularizer_of(PAPER, schedule, [NAMES[image]], latents()[image : image + 1])
        single = alone.at(1, torch.arange(1), Network())
        own = single.predict(latents()[image : image + 1], torch.arange(1))
        regular = single.regularize(own, latents()[image : image + 1], torch.arange(1), 1)
        torch.testing.assert_close(regular[0], together.regularize(prediction, latents(), torch.arange(3), 1)[image])


@settings(deadline=None, max_examples=25)
@given(names=st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True), seed=st.integers(0, 99))
def test_an_images_random_numbers_do_not_depend_on_its_batch(names: list[str], seed: int) -> None:
    schedule = schedule_of(DDIMScheduler, steps=2)
    together = regularizer_of(PAPER, schedule, names, seed=seed)
    assert together.target_noise is not None
    for image, name in enumerate(names):
        alone = regularizer_of(PAPER, schedule, [name], seed=seed)
        assert alone.target_noise is not None
        assert torch.equal(alone.target_noise[0], together.target_noise[image])
        assert torch.equal(alone.uniform[..., 0], together.uniform[..., image])


def test_each_image_seed_step_and_estimate_has_its_own_random_numbers() -> None:
    schedule = schedule_of(DDIMScheduler)
    one, other = (regularizer_of(PAPER, schedule, seed=seed) for seed in (0, 1))
    assert one.target_noise is not None
    assert other.target_noise is not None
    assert not torch.equal(one.target_noise, other.target_noise)
    assert not torch.equal(one.uniform, other.uniform)
    assert not torch.equal(one.target_noise[0], one.target_noise[1])
    assert not torch.equal(one.uniform[..., 0], one.uniform[..., 1])
    assert not torch.equal(one.uniform[0], one.uniform[1])
    assert not torch.equal(one.uniform[0, 0], one.uniform[0, 1])


@pytest.mark.parametrize(
    "regularization", [PAIR, PATCH_KL, PAPER, EVERYTHING, replace(PAPER, num_reg_steps=1, num_ac_rolls=2)]
)
def test_changing_the_regularization_changes_no_other_random_numbers(
    regularization: EditRegularization,
) -> None:
    schedule = schedule_of(LCMScheduler)
    noise = inverted(schedule, None).noise
    assert noise is not None
    changed = inverted(schedule, regularization)
    assert changed.noise is not None
    assert torch.equal(changed.noise, noise)
    before, after = regularizer_of(PAPER, schedule), regularizer_of(regularization, schedule)
    if after.target_noise is not None:
        assert before.target_noise is not None
        assert torch.equal(after.target_noise, before.target_noise)
        assert not any(torch.equal(after.target_noise, of_step) for of_step in noise)
    if regularization.uniform_shape(8, 8) == PAPER.uniform_shape(8, 8):
        assert torch.equal(after.uniform, before.uniform)


def test_regularization_changes_the_result() -> None:
    schedule = schedule_of(DDIMScheduler)
    plain = inverted(schedule, None).latents
    for regularization in (PAIR, PATCH_KL):
        assert float((inverted(schedule, regularization).latents - plain).abs().max()) > 1e-3


def level(step: Step) -> tuple[float, float]:
    """Returns √ᾱ and √(1−ᾱ)."""
    return step.input_scale * step.signal, step.input_scale * step.sigma


def from_noise(
    prediction_type: str, points: torch.Tensor, noise: torch.Tensor, signal: float, sigma: float
) -> torch.Tensor:
    """Returns the v or z_0 that is equivalent to the prediction `noise` of ε, at the network's input `points`."""
    if prediction_type == "sample":
        return (points - sigma * noise) / signal
    return (noise - sigma * points) / signal


@pytest.mark.parametrize("regularization", [None, EVERYTHING], ids=["plain", "regularized"])
@pytest.mark.parametrize(
    ("kind", "prediction_type"),
    [
        *((kind, "v_prediction") for kind in (DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler)),
        *((kind, "sample") for kind in (DDIMScheduler, LCMScheduler)),
    ],
)
def test_a_v_or_sample_model_is_inverted_like_the_equivalent_epsilon_model(
    kind: Callable[..., SchedulerMixin], prediction_type: str, regularization: EditRegularization | None
) -> None:
    of_noise, of_other = schedule_of(kind), schedule_of(kind, prediction_type=prediction_type)
    levels = {step.timestep: level(step) for step in of_noise}

    def other(points: torch.Tensor, timestep: float) -> torch.Tensor:
        return from_noise(prediction_type, points, answer(points, timestep), *levels[timestep])

    expected = inverted(of_noise, regularization, FakeModel(), AVERAGED).latents
    found = inverted(of_other, regularization, FakeModel(other), AVERAGED).latents
    assert float((found - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_a_v_or_sample_prediction_is_regularized_like_the_equivalent_epsilon_prediction(prediction_type: str) -> None:
    of_noise, of_other = schedule_of(DDIMScheduler), schedule_of(DDIMScheduler, prediction_type=prediction_type)
    index = torch.arange(3)
    for position, step in enumerate(of_noise):

        def other(points: torch.Tensor, index: torch.Tensor, step: Step = step) -> torch.Tensor:
            return from_noise(prediction_type, points, answer(points, 500), *level(step))

        def regularized(of_step: StepRegularizer) -> torch.Tensor:
            return of_step.regularize(of_step.predict(latents(), index), latents(), index, 2)

        expected = regularized(regularizer_of(EVERYTHING, of_noise).at(position, index, Network()))
        found = regularized(regularizer_of(EVERYTHING, of_other).at(position, index, other))
        torch.testing.assert_close(
            of_other.steps[position].predicted_noise(latents(), found), expected, rtol=1e-4, atol=1e-4
        )


def test_a_prediction_at_a_level_of_pure_noise_is_not_changed() -> None:
    schedule = schedule_of(DDIMScheduler, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    regularizer, index = regularizer_of(EVERYTHING, schedule), torch.arange(3)
    for position, step in enumerate(schedule):
        of_step = regularizer.at(position, index, Network())
        prediction = of_step.predict(latents(), index)
        regular = of_step.regularize(prediction, latents(), index, 0)
        assert regular.isfinite().all()
        assert torch.equal(regular, prediction) == (step.noise_from_prediction == 0) == (position == 0)
    assert inverted(schedule, EVERYTHING).latents.isfinite().all()
