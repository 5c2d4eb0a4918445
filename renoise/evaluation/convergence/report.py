"""What the suite `convergence` writes at its end: tables, figures and a page that says what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from renoise.evaluation.convergence import figures
from renoise.evaluation.convergence.held import held_table
from renoise.evaluation.convergence.increments import ITERATIONS, REFERENCE_CALLS
from renoise.evaluation.convergence.jacobian import TOLERANCE
from renoise.evaluation.convergence.rows import measured
from renoise.evaluation.convergence.tables import increments_table, norms_table, step_table
from renoise.evaluation.table_files import markdown_table, write_csv
from renoise.utils.files import write_atomically, writing_to

PAGE = "convergence.md"
HEADINGS = {
    "t": "t",
    "first": "first residual",
    "last": "last residual",
    "contraction": "contraction",
    "cosine": "cosine",
    "norm": "Jacobian norm",
    "expected": "norm for one point",
    "averaging": "averaging two",
}
INEXACT = 1e-4
"""Residual of a fixed point from which on the page says how large it is."""
FORMATS = {"t": "g", "first": ".2e", "last": ".2e"}
"""Of columns of the page; others have three decimal places."""


def write_report(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Writes the tables, the figures and the page.

    Args:
        folder: The output folder.
        rows: Of all images.

    Returns:
        Lines for the screen: what is missing, and where the page is.
    """
    images = measured(rows)
    lines = list(_problems(rows, images))
    if not images:
        return [*lines, "convergence: no image could be measured"]
    increments, norms = increments_table(images), norms_table(images)
    steps, held = step_table(images, norms), held_table(images)
    with writing_to(folder):
        write_csv(folder / "convergence.csv", increments)
        figures.plot_increments(folder / "increments", increments)
        figures.plot_cosines(folder / "cosines", increments)
        figures.plot_averages(folder / "averages", increments)
        figures.plot_toy(folder / "toy")
        if len(norms):
            write_csv(folder / "jacobian.csv", norms)
            figures.plot_norms(folder / "jacobian", norms)
        if len(held):
            write_csv(folder / "held.csv", held)
            figures.plot_held(folder / "held", held)
        page = "\n\n".join(_page(steps, increments, held, lines))
        write_atomically(folder / PAGE, f"{page}\n".encode(errors="backslashreplace"))
    return [*lines, f"convergence: {folder / PAGE}"]


def _problems(rows: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields what is missing, each thing once."""
    for row in rows:
        if row["error"] is not None:
            yield f"failed: {row['file_name']}: {row['error']}"
    if len(images) == 1:
        yield "one image: there are no standard deviations"
    problems = dict.fromkeys(row["norms_problem"] for row in images if row["norms_problem"] is not None)
    for problem in problems:
        yield f"the norms of the Jacobian are left out, because the network has no derivatives here ({problem})"


def _page(steps: pd.DataFrame, increments: pd.DataFrame, held: pd.DataFrame, problems: Sequence[str]) -> Iterator[str]:
    """Yields the parts of the page."""
    images, has_norms = increments["image"].nunique(), bool(steps["norm"].notna().any())
    inexact = increments["reference_residual"].max()
    yield "# Convergence of renoising"
    yield (
        f"{images} image{'s' if images > 1 else ''}, K = {ITERATIONS} at each step. Means ± standard deviations over "
        "images; *contraction* and *averaging two* are medians."
    )
    if problems:
        yield "\n".join(f"- {problem}" for problem in problems)
    yield _markdown(steps, has_norms).rstrip("\n")
    yield "## What this means"
    yield " ".join(_sentences(steps, has_norms))
    if len(held):
        yield "## What is held fixed"
        yield _held_markdown(held).rstrip("\n")
        yield (
            "Contractions of flow matching, medians over images: with v held fixed, as renoising does here, and with ε "
            "held fixed, as on other models. *for N(a, s² I)* are the closed forms, where s² is the variance of an "
            "image's latents (figure `held`). A dash is a step too fast to measure."
        )
    yield "## Columns and figures"
    yield "\n".join(_explanations(has_norms, inexact))


def _sentences(steps: pd.DataFrame, has_norms: bool) -> Iterator[str]:
    """Yields what the numbers say."""
    slow = steps.loc[steps["contraction"].idxmax()] if steps["contraction"].notna().any() else None
    if slow is not None and slow["contraction"] < 1:
        yield (
            f"The increments shrink at every step, most slowly at t = {slow['t']:g}: there each renoising iteration "
            f"leaves {slow['contraction']:.2f} of the one before."
        )
    elif slow is not None:
        yield (
            f"The increments grow at t = {slow['t']:g}, by a factor of {slow['contraction']:.2f} from one renoising "
            "iteration to the next: renoising does not converge there."
        )
    if has_norms:
        below = steps[steps["norm"] < 1]
        yield (
            f"The scaled norm of the Jacobian is below 1 at {len(below)} of {len(steps)} steps. There every error "
            "shrinks."
        )
        if len(below) < len(steps):
            yield (
                "At the others renoising can still converge: the norm is that of the worst direction, and the "
                "increments may lie in others."
            )
    helped = steps[steps["averaging"] < 1]
    if len(helped):
        levels = ", ".join(f"{t:g}" for t in helped["t"])
        yield f"The mean of two successive estimates is nearer to the fixed point than the later one at t = {levels}."
    else:
        yield (
            "Averaging slows renoising here: at every step the mean of two successive estimates is farther from the "
            "fixed point than the later one, because successive increments point in similar directions."
        )


def _explanations(has_norms: bool, inexact: float) -> Iterator[str]:
    yield (
        "- `increments`: ‖z^(k+1) − z^(k)‖. The page's *residuals* are the same as the solver has them, "
        "|φ| ‖z^(k+1) − z^(k)‖ / ‖z_{t-1}‖. *contraction* is the factor from one increment to the next."
    )
    yield (
        "- `cosines`: of the angle between successive increments. At 1 all estimates approach the fixed point from one "
        "side, at −1 they alternate around it."
    )
    if has_norms:
        yield (
            "- `jacobian`: ‖∂G/∂z‖ = (|ψ| / φ) ‖∂ε/∂z‖, with φ and ψ of the step written in terms of ε, by power "
            f"iteration until a further pair of products changes it by at most {TOLERANCE:.1%}. The dashed line, *norm "
            "for one point*, is |ψ| / (φ · sigma): what data that is one point would have."
        )
    known = f" (here to a residual of {inexact:.0e} at worst)" if inexact > INEXACT else ""
    yield (
        "- `averages`: distances to z*, the fixed point that Anderson acceleration finds with at most "
        f"{REFERENCE_CALLS} more network calls{known}. Averages tend to the same point as the estimates. *averaging "
        "two* is the distance of the mean of two successive estimates relative to that of the later one; below 1 "
        "averaging helps."
    )
    yield (
        "- `toy`: data whose noise is known. For the flow of a shifted Gaussian one renoising iteration is exact. For "
        "DDIM the error shrinks by a constant factor c, and that of averages like 1 / k; lines are closed forms."
    )


def _markdown(steps: pd.DataFrame, has_norms: bool) -> str:
    """Returns the table of the page."""
    shown = {name: title for name, title in HEADINGS.items() if has_norms or name not in ("norm", "expected")}
    rows = steps.sort_values("t", ascending=False).iterrows()
    return markdown_table(list(shown.values()), ([_cell(row, name) for name in shown] for _, row in rows), "---:")


def _held_markdown(held: pd.DataFrame) -> str:
    titles = ["t", "v held", "for N(a, s² I)", "ε held", "for N(a, s² I)"]
    columns = ["t", "v", "gaussian_v", "noise", "gaussian_noise"]
    rows = held.sort_values("t", ascending=False).iterrows()
    return markdown_table(titles, ([_cell(row, name) for name in columns] for _, row in rows), "---:")


def _cell(row: Mapping[str, float], name: str) -> str:
    style = FORMATS.get(name, ".3f")
    value, spread = row[name], row.get(f"{name}_std", float("nan"))
    if pd.isna(value):
        return "–"
    return f"{value:{style}}" if pd.isna(spread) else f"{value:{style}} ± {spread:{style}}"
