"""The tables of the suite `convergence`: every measurement, and what they say of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from renoise.evaluation.convergence.rates import averaging_factor, contraction, mean_cosine

COLUMNS = ["image", "step", "t", "k", "norm", "residual", "products", "expected"]
"""Of `jacobian.csv`."""


def increments_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns a row for each image, step and k with the columns of `convergence.csv`.

    Args:
        rows: Of the images that were measured.
    """
    table = [
        {
            "image": row["file_name"],
            "step": step["position"],
            "t": step["t"],
            "k": k,
            "increment": increment,
            "residual": step["residuals"][k],
            "cosine": step["cosines"][k - 1] if k else None,
            "distance": step["distances"][k],
            "average_distance": step["average_distances"][k],
            "pair_distance": step["pair_distances"][k - 1] if k else None,
            "reference_residual": step["reference_residual"],
        }
        for row in rows
        for step in row["steps"]
        for k, increment in enumerate(step["increments"])
    ]
    found = pd.DataFrame(table)
    return found.astype(dict.fromkeys(found.columns[4:], float))


def norms_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns a row for each image, step and k with the columns of `jacobian.csv`.

    Args:
        rows: Of the images that were measured.
    """
    table = [
        [row["file_name"], step["position"], step["t"], *(norm[name] for name in COLUMNS[3:-1]), step["expected"]]
        for row in rows
        for step in row["steps"]
        for norm in step["norms"]
    ]
    return pd.DataFrame(table, columns=COLUMNS).astype({"norm": float, "residual": float, "expected": float})


def step_table(rows: Sequence[Mapping[str, Any]], norms: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each step: means over the images, and their standard deviations (`…_std`; NaN for one image).

    Columns: `first` and `last`, the residuals of the first and the last increment; `contraction`, the factor from one
    increment to the next (see `contraction`), and `averaging` (see `averaging_factor`), medians over images; `cosine`,
    of successive increments; `norm`, at the last estimate where it was measured; `expected`.

    Args:
        rows: Of the images that were measured.
        norms: See `norms_table`.
    """
    table = pd.DataFrame(
        {
            "position": step["position"],
            "t": step["t"],
            "first": step["residuals"][0],
            "last": step["residuals"][-1],
            "contraction": contraction(step["residuals"]),
            "cosine": mean_cosine(step),
            "averaging": averaging_factor(step),
        }
        for row in rows
        for step in row["steps"]
    )
    steps = []
    for (_, t), group in table.groupby(["position", "t"], sort=True):
        last_norms = norms[(norms["t"] == t) & (norms["k"] == norms["k"].max())]
        of_step = {"t": t, **{name: group[name].median() for name in ("contraction", "averaging")}}
        spread = {name: group[name] for name in ("first", "last", "cosine")} | {"norm": last_norms["norm"]}
        for name, values in spread.items():
            of_step |= {name: values.mean(), f"{name}_std": values.std()}
        steps.append(of_step | {"expected": last_norms["expected"].mean()})
    return pd.DataFrame(steps)
