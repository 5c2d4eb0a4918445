from __future__ import annotations

import math
import re

from renoise.demo.curve import draw_curve


def heights(svg: str) -> list[float]:
    return [float(value) for value in re.findall(r'cy="([\d.]+)"', svg)]


def test_larger_residuals_are_higher_and_steps_that_were_drawn_have_no_point() -> None:
    first, second, third = heights(draw_curve([1e-2, math.nan, 1e-4, 1e-3]))
    assert first < third < second
    assert math.isclose(third - first, second - third, abs_tol=0.2)


def test_one_step_is_a_point_and_no_step_is_nothing() -> None:
    assert len(heights(draw_curve([math.nan, 3e-4]))) == 1
    assert draw_curve([math.nan, math.nan]) == draw_curve([]) == ""
