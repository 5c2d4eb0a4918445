"""What all figures share: colors that everybody can tell apart, and files whose bytes depend on the numbers alone."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from renoise.utils.files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A0A000")
"""Okabe and Ito's palette, with a darker yellow that is seen on white."""
MARKERS = "osD^vPX*"
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""Without versions and dates, the same numbers give the same bytes."""


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as `path`.png and `path`.pdf. The same numbers give the same bytes.

    Args:
        figure: The figure.
        path: Without a suffix.
    """
    with rc_context({"pdf.fonttype": 42}):  # letters stay text
        for kind, metadata in METADATA.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
            write_atomically(path.with_name(f"{path.name}.{kind}"), content.getvalue())
