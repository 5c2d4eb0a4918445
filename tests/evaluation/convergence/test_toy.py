"""The toys of the paper's supplement in closed form."""

from __future__ import annotations

import pytest

from renoise.evaluation.convergence import toy


def test_one_renoising_iteration_is_exact_for_the_flow_of_a_shifted_gaussian() -> None:
    reversal, once, twice = toy.ode_errors()
    assert reversal == pytest.approx(0.25 * 2 * (2.718281828**-0.5 - 2.718281828**-0.75), rel=1e-6)
    assert once == pytest.approx(0, abs=1e-12)
    assert twice == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("variance", [0.01, 0.04, 1.0])
@pytest.mark.parametrize("levels", [(0.9, 0.75), (0.3, 0.1), (0.5, 0.0)])
def test_ddim_s_errors_are_geometric_and_so_are_their_averages(levels: tuple[float, float], variance: float) -> None:
    step = toy.ddim_step(*levels)
    errors, averages = toy.ddim_errors(step, variance)
    ratio = toy.contraction(step, variance)
    assert errors[1:] == pytest.approx([errors[0] * ratio**k for k in range(1, len(errors))], rel=1e-6, abs=1e-12)
    assert averages == pytest.approx(toy.geometric_averages(ratio, errors[0]), rel=1e-6, abs=1e-12)


def test_ddim_steps_lead_from_one_level_to_the_other() -> None:
    step = toy.ddim_step(0.6, 0.3)
    assert step.cleaner_level == pytest.approx(((1 - 0.3**2) ** 0.5, 0.3))
