"""The curve of convergence: how exactly each step of the inversion was solved, as an SVG image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 250, 48, 8, 10, 44
"""Of the image and its margins, in pixels."""
MAX_LABELS = 5


def draw_curve(residuals: Sequence[float]) -> str:
    """Returns the residuals of the steps over the steps, on a logarithmic scale. Empty where no step was solved.

    Args:
        residuals: Of every step of the inversion, cleanest first. NaN where a step was not solved by iteration.

    Example:
        >>> from renoise.demo.curve import draw_curve
        >>> draw_curve([1e-3, 1e-4]).count("<circle")
        2
    """
    points = [(step, value) for step, value in enumerate(residuals, start=1) if math.isfinite(value) and value > 0]
    if not points:
        return ""
    low = math.floor(min(math.log10(value) for _, value in points))
    high = max(low + 1, math.ceil(max(math.log10(value) for _, value in points)))

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - 0.5) / len(residuals)

    def y(exponent: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - exponent) / (high - low)

    places = [(x(step), y(math.log10(value))) for step, value in points]
    parts = [_level(y(exponent), f"1e{exponent}") for exponent in _spread(low, high)]
    parts += [_text(x(step), HEIGHT - 26, str(step)) for step in _spread(1, len(residuals))]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "step of the inversion, cleanest first"))
    parts.append(f'<polyline class="curve" points="{" ".join(f"{left:.1f},{top:.1f}" for left, top in places)}"/>')
    for (step, value), (left, top) in zip(points, places, strict=True):
        title = escape(f"step {step}: {value:.1e}")
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="2.5"><title>{title}</title></circle>')
    label = "residual of each step of the inversion"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _spread(first: int, last: int) -> list[int]:
    """Returns a few whole numbers from the first to the last."""
    count = min(MAX_LABELS, last - first + 1)
    return sorted({first + round(index * (last - first) / max(1, count - 1)) for index in range(count)})


def _level(top: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{top + 4:.1f}" text-anchor="end">{label}</text>'


def _text(left: float, top: float, text: str) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="middle">{text}</text>'
