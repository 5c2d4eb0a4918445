"""Norms of Jacobians against dense Jacobians, and what happens where there are no derivatives."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, SchedulerMixin
from helpers.random_network import RandomNetwork, prompts

import renoise
from renoise import Schedule, Step, StepEquation
from renoise.evaluation.convergence.increments import expected_norm, renoising_of
from renoise.evaluation.convergence.jacobian import MAX_RESIDUAL, Jacobian, Mapping, spectral_norms

SCHEDULERS = {
    "epsilon": DDIMScheduler(clip_sample=False),
    "v_prediction": DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    "sample": DDIMScheduler(clip_sample=False, prediction_type="sample"),
    "sigma space": EulerAncestralDiscreteScheduler(),
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense_norms(mapping: Mapping, point: torch.Tensor) -> list[float]:
    """The largest singular value of each image's Jacobian, of which every entry is computed."""
    norms = []
    for position in range(len(point)):
        index = torch.tensor([position])
        jacobian = torch.func.jacrev(lambda latents, index=index: mapping(latents[None], index)[0])(point[position])
        size = point[position].numel()
        norms.append(torch.linalg.matrix_norm(jacobian.reshape(size, size), ord=2).item())
    return norms


def equation(step: Step, network: RandomNetwork) -> StepEquation:
    conditioning = prompts(-0.5, 0.0, 0.7)

    def predict(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return network.predict(step.input_scale * latents, step.timestep, conditioning.select(index))

    previous = normal(3, 4, 6, 6, seed=1)
    noise = normal(3, 4, 6, 6, seed=2) if step.rho else None
    return StepEquation(step, previous, predict, noise)


@pytest.mark.parametrize("position", [0, 2, 3])
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_norms_of_the_renoising_map_are_those_of_dense_jacobians(scheduler: SchedulerMixin, position: int) -> None:
    step = Schedule.from_scheduler(scheduler, num_inference_steps=4).steps[position]
    mapping = renoising_of(equation(step, RandomNetwork()))
    point = step.sigma * normal(3, 4, 6, 6, seed=3)
    norms = spectral_norms(Jacobian(mapping, point), normal(3, 4, 6, 6, seed=4))
    assert norms.values.tolist() == pytest.approx(dense_norms(mapping, point), rel=0.02)
    assert (norms.residual <= MAX_RESIDUAL).all()


@pytest.mark.parametrize("name", ["epsilon", "v_prediction", "sample"])
def test_norms_are_psi_over_phi_times_those_of_the_noise_whatever_the_network_predicts(name: str) -> None:
    step = Schedule.from_scheduler(SCHEDULERS[name], num_inference_steps=4).steps[1]
    network, point = RandomNetwork(), normal(3, 4, 6, 6, seed=3)

    def noise(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        prediction = network.predict(step.input_scale * latents, step.timestep, prompts(0.0, 0.0, 0.0).select(index))
        return step.predicted_noise(latents, prediction)

    def predict(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return network.predict(step.input_scale * latents, step.timestep, prompts(0.0, 0.0, 0.0).select(index))

    found = spectral_norms(Jacobian(renoising_of(StepEquation(step, point, predict)), point), normal(3, 4, 6, 6))
    scale = abs(step.psi_of_noise / step.phi_of_noise)
    assert found.values.tolist() == pytest.approx([scale * norm for norm in dense_norms(noise, point)], rel=0.02)


def test_norms_of_a_shipped_network_are_those_of_dense_jacobians() -> None:
    pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=4, dtype=torch.float64)
    step, model = pipeline.schedule.steps[1], pipeline.model
    conditioning = model.encode_prompts(["a cat", ""])

    def predict(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return model.predict(step.input_scale * latents, step.timestep, conditioning.select(index))

    point = normal(2, 4, 4, 4)
    mapping = renoising_of(StepEquation(step, point, predict))
    norms = spectral_norms(Jacobian(mapping, point), normal(2, 4, 4, 4, seed=1))
    assert norms.values.tolist() == pytest.approx(dense_norms_by_rows(mapping, point), rel=0.02)


def dense_norms_by_rows(mapping: Mapping, point: torch.Tensor) -> list[float]:
    """The same as `dense_norms`, a row of all Jacobians at a time, for networks that `torch.func` cannot map over."""
    jacobian = Jacobian(mapping, point)
    size = point[0].numel()
    units = torch.eye(size, dtype=point.dtype).view(size, *point.shape[1:])
    rows = torch.stack([jacobian.transposed_times(unit.expand_as(point)).flatten(1) for unit in units], 1)
    return torch.linalg.matrix_norm(rows, ord=2).tolist()


def test_the_norm_of_a_matrix_is_its_largest_singular_value_at_any_gap() -> None:
    values = torch.tensor([1.0, 0.99, 0.98, *[0.5] * 13], dtype=torch.float64)
    left, right = (torch.linalg.qr(normal(16, 16, seed=seed))[0] for seed in (5, 6))
    matrix = left @ values.diag() @ right

    def mapping(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return (latents.flatten(1) @ matrix.T).view_as(latents)

    norms = spectral_norms(Jacobian(mapping, normal(1, 1, 4, 4)), normal(1, 1, 4, 4, seed=7), tolerance=1e-9)
    assert norms.values.item() == pytest.approx(1.0, abs=1e-9)
    assert abs((norms.vectors.flatten() @ right[0]).item()) == pytest.approx(1.0, abs=1e-4)


def test_an_image_has_the_same_norm_alone_and_in_a_batch_and_takes_no_more_products() -> None:
    step = Schedule.from_scheduler(SCHEDULERS["epsilon"], num_inference_steps=4).steps[3]
    mapping, point, start = (
        renoising_of(equation(step, RandomNetwork())),
        normal(3, 4, 6, 6, seed=3),
        normal(3, 4, 6, 6),
    )
    together = spectral_norms(Jacobian(mapping, point), start)

    def of_second(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return mapping(latents, index + 1)

    alone = spectral_norms(Jacobian(of_second, point[1:2]), start[1:2])
    assert alone.values.item() == pytest.approx(together.values[1].item(), rel=1e-9)
    assert alone.products.item() == together.products[1].item()


def test_a_constant_map_has_norm_0() -> None:
    norms = spectral_norms(Jacobian(lambda latents, index: 0 * latents, normal(2, 4, 4, 4)), normal(2, 4, 4, 4))
    assert norms.values.tolist() == [0.0, 0.0]


def test_an_image_that_turns_nan_costs_only_itself() -> None:
    point = normal(2, 4, 4, 4)
    point[0] = torch.nan
    norms = spectral_norms(
        Jacobian(lambda latents, index: 0.3 * latents.sin() + latents * 0.1, point), normal(2, 4, 4, 4)
    )
    assert norms.values[0].isnan()
    assert 0 < norms.values[1] < 0.4


class HidesItsInput(torch.autograd.Function):
    """The identity with a backward pass and no forward derivative."""

    @staticmethod
    def forward(context: object, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def hides_a_part(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        hidden = latents.sin()
    return latents + hidden


@pytest.mark.parametrize(
    "mapping",
    [
        lambda latents, index: latents.detach() * 2,
        lambda latents, index: HidesItsInput.apply(latents),
        hides_a_part,
    ],
    ids=["no gradients", "no forward derivative", "a hidden part"],
)
def test_a_network_without_derivatives_is_an_error_and_not_a_wrong_norm(mapping: Mapping) -> None:
    with pytest.raises(RuntimeError):
        spectral_norms(Jacobian(mapping, normal(1, 4, 4, 4)), normal(1, 4, 4, 4))


def test_the_expected_norm_is_exact_for_data_that_is_one_point() -> None:
    step = Schedule.from_scheduler(SCHEDULERS["epsilon"], num_inference_steps=4).steps[2]

    def predict(latents: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return (latents - step.signal * 0.3) / step.sigma

    norms = spectral_norms(
        Jacobian(renoising_of(StepEquation(step, normal(1, 4, 4, 4), predict)), normal(1, 4, 4, 4)), normal(1, 4, 4, 4)
    )
    assert norms.values.item() == pytest.approx(expected_norm(step), rel=1e-9)
