from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.core.budget import CallBudget, contraction
from renoise.core.fixed_point import Solution, StepEquation
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.core.step import Step

SCHEDULES = {
    "DDIM": DDIMScheduler(clip_sample=False, timestep_spacing="trailing"),
    "ancestral Euler": EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
}
CPU = torch.device("cpu")


def previous(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def solve(schedule: Schedule, evaluations: int, warm: bool, rates: torch.Tensor) -> list[Solution]:
    """Solves every step under a budget, from the cleanest. Image i contracts by `rates[i]`."""
    budget = CallBudget(schedule.steps, evaluations, len(rates), CPU, warm)
    found = []
    for step in reversed(schedule):

        def network(latents: torch.Tensor, index: torch.Tensor, step: Step = step) -> torch.Tensor:
            return rates[index].view(-1, 1, 1, 1) * latents * step.phi_of_noise / -step.psi_of_noise

        noise = torch.zeros_like(previous()) if step.rho else None
        equation = StepEquation(step, previous(), network, noise)
        found.append(Renoising().solve(equation, [0.0] * evaluations + [1.0], stop=budget.stop(step)))
        budget.spend(found[-1])
    return found


@pytest.mark.parametrize("name", SCHEDULES)
@given(steps=st.integers(1, 8), more=st.integers(0, 40), warm=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_image_spends_its_budget_and_every_step_has_a_part(name: str, steps: int, more: int, warm: bool) -> None:
    schedule = Schedule.from_scheduler(SCHEDULES[name], steps)
    rates = torch.tensor([0.9, 0.8, 0.7, 0.6], dtype=torch.float64)
    found = torch.stack([each.iterations for each in solve(schedule, steps + more, warm, rates)])
    assert found.sum(0).tolist() == [steps + more] * 4
    assert int(found.min()) >= 1


def test_a_step_that_converges_slowly_is_given_more() -> None:
    schedule = Schedule.from_scheduler(SCHEDULES["DDIM"], 4)
    found = torch.stack([each.iterations for each in solve(schedule, 40, True, torch.full((4,), 0.9).double())])
    assert int(found[0, 0]) == 15 > 40 // 4, "the cleanest step contracts least, and the others are expected to be fast"
    cold = torch.stack([each.iterations for each in solve(schedule, 40, False, torch.full((4,), 0.9).double())])
    assert int(cold[1:].min()) >= 8, "steps that start cold keep three quarters of an equal part"


def test_a_step_that_draws_noise_keeps_three_quarters_of_an_equal_part() -> None:
    schedule = Schedule.from_scheduler(SCHEDULES["ancestral Euler"], 4)
    found = torch.stack([each.iterations for each in solve(schedule, 32, True, torch.full((4,), 0.95).double())])
    assert int(found[1:].min()) >= 6


def test_images_share_their_own_calls_each_by_itself() -> None:
    schedule = Schedule.from_scheduler(SCHEDULES["DDIM"], 4)
    rates = torch.tensor([0.95, 0.3, 0.6, 0.1], dtype=torch.float64)
    together = torch.stack([each.iterations for each in solve(schedule, 24, True, rates)])
    assert together[0, 0] > together[0, 3]
    same = torch.stack([each.iterations for each in solve(schedule, 24, True, rates[0].expand(4))])
    assert together[:, 0].tolist() == same[:, 0].tolist()


@pytest.fixture
def bfloat16_by_default() -> Iterator[None]:
    """The default type of a run with precision bf16-true."""
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("bfloat16_by_default")
def test_residuals_in_float32_are_taken_where_new_tensors_are_in_bfloat16() -> None:
    steps = Schedule.from_scheduler(SCHEDULES["DDIM"], 3).steps
    stop = CallBudget(steps, 30, 1, CPU, warm=True).stop(steps[-1])
    residual = torch.ones(1, dtype=torch.float32)
    assert stop(residual, torch.ones(1, dtype=torch.int64), torch.arange(1)).tolist() == [False]


def test_nan_and_a_solved_equation_stop_at_once() -> None:
    steps = Schedule.from_scheduler(SCHEDULES["DDIM"], 3).steps
    stop = CallBudget(steps, 30, 3, CPU, warm=True).stop(steps[-1])
    residual = torch.tensor([torch.nan, 0.0, 1.0])
    assert stop(residual, torch.ones(3, dtype=torch.int64), torch.arange(3)).tolist() == [True, True, False]


def test_the_contraction_of_ddim_follows_from_its_noise_levels() -> None:
    scheduler = SCHEDULES["DDIM"]
    schedule = Schedule.from_scheduler(scheduler, 4)
    levels = [((1 - alpha) / alpha) ** 0.5 for alpha in scheduler.alphas_cumprod[[999, 749, 499, 249]].tolist()]
    for step, noisier, cleaner in zip(schedule, levels, levels[1:], strict=False):
        assert contraction(step) == pytest.approx(min(max(1 - cleaner / noisier, 0.05), 0.95), abs=1e-4)
    assert contraction(schedule.steps[-1]) == 0.95
