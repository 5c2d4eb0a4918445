"""Editing methods over their guidance: the points of a sweep where pairs are compared, as tables and curves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pandas as pd

from benchmarks.shared.plots import Curve
from benchmarks.shared.tables import markdown

EQUAL_SHARE = 0.9
"""Pairs are compared where the strict judge accepts this share of the edits. Without edits every image is kept."""
COSTS = ["nfe", "seconds"]
"""Jump where guidance begins, so they are not interpolated."""
COLUMNS = {
    "editor": "editing method",
    "inversion": "inversion",
    "guidance_scale": "guidance",
    "target_share": "target animal",
    "strict_share": "strict judge",
    "target_psnr": "PSNR to the true edit (dB)",
    "background_psnr": "background PSNR (dB)",
    "background_ssim": "background SSIM",
    "structure_distance": "structure distance",
    "inversion_nfe": "NFE of the inversion",
    "nfe": "NFE",
    "seconds": "processor seconds",
}
FORMATS = {
    "guidance": ".2f",
    "target animal": ".1%",
    "PSNR to the true edit (dB)": ".2f",
    "background PSNR (dB)": ".2f",
    "background SSIM": ".3f",
    "structure distance": ".4f",
    "NFE of the inversion": ".0f",
    "NFE": ".0f",
    "processor seconds": ".3f",
}


def sweeps(points: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yields each pair (editor, inversion) with its points by rising guidance, editor by editor.

    Args:
        points: A row per editor, inversion and guidance_scale, with the fields of `EditQuality`.
    """
    for editor, of_editor in points.groupby("editor", sort=False):
        for inversion, sweep in of_editor.groupby("inversion", sort=False):
            yield (str(editor), str(inversion)), sweep.sort_values("guidance_scale")


def at_share(sweep: pd.DataFrame, wanted: float = EQUAL_SHARE) -> pd.Series | None:
    """Returns the point with the most background PSNR where at least a share of the edits succeeds.

    Points are joined by straight lines. The best place on them is always a point, or a place where the wanted share is
    crossed.

    Args:
        sweep: Points of one pair by rising guidance.
        wanted: Share of edits that the strict judge accepts, in [0, 1].

    Returns:
        The point. None if the share is never reached.
    """
    points = [point for _, point in sweep.iterrows()]
    reached = [point for point in points if point.strict_share >= wanted]
    for first, second in pairwise(points):
        low, high = first.strict_share, second.strict_share
        if min(low, high) < wanted < max(low, high):
            reached.append(_between(first, second, (wanted - low) / (high - low)))
    return max(reached, key=lambda point: point.background_psnr, default=None)


def _between(first: pd.Series, second: pd.Series, share: float) -> pd.Series:
    """Returns the point a share of the way from one point to another, at the higher of their costs."""
    numbers = [name for name, value in first.items() if not isinstance(value, str)]
    point = first.copy()
    point[numbers] = first[numbers] + share * (second[numbers] - first[numbers])
    point[COSTS] = [max(first[name], second[name]) for name in COSTS]
    return point


def table(points: pd.DataFrame) -> str:
    """Returns each pair at an equal share of successful edits, in Markdown.

    A pair that does not reach the share is shown where its share is highest, in italics.
    """
    rows = []
    for _, sweep in sweeps(points):
        point, style = at_share(sweep), "{:.1%}"
        if point is None:
            point, style = sweep.sort_values(["strict_share", "background_psnr"]).iloc[-1], "*{:.1%}*"
        rows.append({**point, "strict_share": style.format(point.strict_share)})
    return markdown(pd.DataFrame(rows)[list(COLUMNS)].rename(columns=COLUMNS), FORMATS)


def curves(points: pd.DataFrame) -> dict[str, dict[str, Curve]]:
    """Returns background PSNR over the share that the strict judge accepts: panels by editor, curves by inversion."""
    panels: dict[str, dict[str, Curve]] = {}
    for (editor, inversion), sweep in sweeps(points):
        panels.setdefault(editor, {})[inversion] = [
            (100 * point.strict_share, point.background_psnr, f"{point.guidance_scale:g}")
            for point in sweep.itertuples()
        ]
    return panels
