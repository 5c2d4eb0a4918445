"""Editing methods over their guidance: the sweep, its point at an equal share of edits that succeed, and its tables."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

from benchmarks.edit_evaluation import EditEvaluation

EQUAL_SHARE = 0.9
"""Of edits that show the animal asked for, at which pairs are compared: any method keeps the image by not editing."""
COSTS = ("nfe", "seconds")
"""They jump where guidance comes in, and are not interpolated."""
HEADER = (
    "| editing method | inversion | guidance | target animal | PSNR to the true edit (dB) | background PSNR (dB) | "
    "background SSIM | structure distance | rows of the inversion | rows | processor seconds |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)
COLUMNS = ("suite", "editor", "inversion", "guidance_scale", *(each.name for each in fields(EditEvaluation)))


@dataclass(frozen=True)
class Point:
    """One pair at one guidance."""

    editor: str
    inversion: str
    guidance_scale: float
    found: EditEvaluation

    def towards(self, other: Point, share: float) -> Point:
        """The point a share of the way to another of the same pair; what it costs is what the dearer of both costs."""
        values = {
            name: max(near, far) if name in COSTS else near + share * (far - near)
            for (name, near), far in zip(asdict(self.found).items(), astuple(other.found), strict=True)
        }
        guidance = self.guidance_scale + share * (other.guidance_scale - self.guidance_scale)
        return replace(self, guidance_scale=guidance, found=EditEvaluation(**values))


def sweeps(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """The points of each pair (editor, inversion) by rising guidance; editor by editor, in their order."""
    grouped: dict[tuple[str, str], list[Point]] = {}
    for editor in dict.fromkeys(point.editor for point in points):
        for point in points:
            if point.editor == editor:
                grouped.setdefault((editor, point.inversion), []).append(point)
    return {pair: sorted(sweep, key=lambda point: point.guidance_scale) for pair, sweep in grouped.items()}


def at_share(sweep: Sequence[Point], wanted: float = EQUAL_SHARE) -> Point | None:
    """The point with the most background PSNR among those of at least so many edits that succeed; None without any.

    The sweep's points, by rising guidance, are joined by straight lines, along which the best is always one of the
    points or a place where the wanted share is crossed.
    """
    reached = [point for point in sweep if point.found.target_share >= wanted]
    for first, second in pairwise(sweep):
        low, high = first.found.target_share, second.found.target_share
        if min(low, high) < wanted < max(low, high):
            reached.append(first.towards(second, (wanted - low) / (high - low)))
    return max(reached, key=lambda point: point.found.background_psnr, default=None)


def table(points: Sequence[Point]) -> str:
    """One line per pair at an equal share of edits that succeed, in Markdown; the highest share in italics without."""
    lines = []
    for sweep in sweeps(points).values():
        point = at_share(sweep)
        if point is not None:
            lines.append(_line(point, f"{point.found.target_share:.1%}"))
            continue
        best = max(sweep, key=lambda point: (point.found.target_share, point.found.background_psnr))
        lines.append(_line(best, f"*{best.found.target_share:.1%}*"))
    return HEADER + "\n".join(lines) + "\n"


def write_csv(path: Path, suites: Sequence[str], measured: dict[str, list[Point]]) -> None:
    """Writes every point of the suites just measured; of the other `suites` the file keeps what it holds.

    Args:
        path: of the file, which need not exist.
        suites: names of all there are, in the order of the lines.
        measured: points by suite.
    """
    rows = [row for row in _read_csv(path) if row["suite"] not in measured and row["suite"] in suites]
    for suite, points in measured.items():
        for point in (point for sweep in sweeps(points).values() for point in sweep):
            values = {name: f"{value:.6g}" for name, value in asdict(point.found).items()}
            named = {"suite": suite, "editor": point.editor, "inversion": point.inversion}
            rows.append(named | {"guidance_scale": f"{point.guidance_scale:g}"} | values)
    rows.sort(key=lambda row: suites.index(row["suite"]))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _line(point: Point, share: str) -> str:
    found = point.found
    cells = [
        *(point.editor, point.inversion, f"{point.guidance_scale:.2f}", share),
        *(f"{found.target_psnr:.2f}", f"{found.background_psnr:.2f}"),
        *(f"{found.background_ssim:.3f}", f"{found.structure_distance:.4f}"),
        *(f"{found.inversion_rows:.0f}", f"{found.nfe:.0f}", f"{found.seconds:.3f}"),
    ]
    return f"| {' | '.join(cells)} |"
