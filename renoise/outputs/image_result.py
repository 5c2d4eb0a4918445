"""The result of one image: its row of the manifest and the content of its files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from renoise.data import Encoded, ImageBatch, ImageRecord
from renoise.inversion.base import Inversion
from renoise.metrics import Comparison, Metric
from renoise.outputs.columns import SOLVED, renamed
from renoise.outputs.inversion_file import inversion_metadata, inversion_tensors


@dataclass
class ImageResult:
    """Everything that is written for one image: its row of the manifest and, unless it failed, its files.

    Args:
        row: The row of the manifest.
        tensors: The tensors of the inversion's file, see `inversion_tensors`.
        metadata: The metadata of the inversion's file, see `inversion_metadata`.
        reconstruction: [3, H, W] in [0, 1]; None for a failed image.
        edits: The edited images, [3, H, W] in [0, 1], by the names of the editors' folders.
        original: The prepared original, [3, H, W] in [0, 1]; None for a failed image.
    """

    row: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    reconstruction: Tensor | None = None
    edits: dict[str, Tensor] = field(default_factory=dict)
    original: Tensor | None = None

    @classmethod
    def failed(cls, record: ImageRecord, error: str, metrics: Iterable[str]) -> ImageResult:
        """Returns the result of an image that failed. Its row has all columns, so that the manifest loads as a table.

        Args:
            record: The image.
            error: What went wrong.
            metrics: Names of the metrics of the run.
        """
        return cls(_row(record, metrics) | {"status": "failed", "error": error})


def measure(
    batch: ImageBatch,
    encoded: Encoded,
    inversion: Inversion,
    rebuilt_latents: Tensor,
    reconstructions: Tensor,
    metrics: Mapping[str, Metric],
    settings: Mapping[str, Any],
) -> list[ImageResult]:
    """Returns the results of B inverted images, without edits and without the seconds that they took.

    Args:
        batch: The images.
        encoded: The images as latents, and the autoencoder's round trip where a metric uses it.
        inversion: The inversion of the images.
        rebuilt_latents: z_0 as sampling from the inversion gives it, [B, C, h, w].
        reconstructions: `rebuilt_latents` decoded, [B, 3, H, W] in [0, 1].
        metrics: What to compute, by the name of its column.
        settings: Everything that the inversion depends on beside the image, in JSON's types.
    """
    comparison = Comparison(batch.images, reconstructions, encoded.latents, rebuilt_latents, encoded.decoded)
    measured = {name: metric(comparison) for name, metric in metrics.items()}
    solved = {name: getattr(inversion, name) for name in SOLVED}
    columns = {name: values.tolist() for name, values in (measured | solved).items() if values is not None}
    results = []
    for position, record in enumerate(batch.records):
        metadata = inversion_metadata(
            settings,
            record.file_name,
            record.prompt or "",
            batch.time_ids[position].tolist(),
            inversion.follows_trajectory,
            batch.sha256[position],
        )
        results.append(
            ImageResult(
                row=_row(record, metrics) | {name: finite(column[position]) for name, column in columns.items()},
                tensors=inversion_tensors(inversion, position),
                metadata=metadata,
                reconstruction=reconstructions[position].cpu(),
                original=batch.images[position].cpu(),
            )
        )
    return results


def not_finite(tensor: Tensor) -> list[int]:
    """Returns the positions along the first axis that contain NaN or infinity.

    Args:
        tensor: [B, …].

    Example:
        >>> import torch
        >>> from renoise.outputs.image_result import not_finite
        >>> not_finite(torch.tensor([[1.0, 2.0], [torch.nan, 0.0]]))
        [1]
    """
    positions: list[int] = (~tensor.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
    return positions


def _row(record: ImageRecord, metrics: Iterable[str]) -> dict[str, Any]:
    """Returns a row with all columns in order; what has to be measured is null. The data's columns come first."""
    measured = dict.fromkeys((*metrics, *SOLVED, "seconds", "inversion"))
    return {
        **renamed(record.extra, metrics),
        "file_name": record.file_name,
        "status": "ok",
        "error": None,
        "prompt": record.prompt,
        "edit_prompt": record.edit_prompt,
        **measured,
        "edits": {},
    }


def finite(value: float) -> float | None:
    """Returns a number, or None for NaN and infinity (the PSNR of two equal images), which JSON cannot represent.

    Args:
        value: Of a metric.
    """
    return value if math.isfinite(value) else None
