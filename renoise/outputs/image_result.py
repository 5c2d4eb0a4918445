"""What one image comes to: its line of the manifest and its files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from renoise.data import Encoded, ImageBatch, ImageRecord
from renoise.inversion.base import Inversion
from renoise.metrics import functional as metrics


@dataclass
class ImageResult:
    """Everything that is written for one image: its line of the manifest, and its files where it did not fail."""

    row: dict[str, Any]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    reconstruction: torch.Tensor | None = None
    edits: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def failed(cls, record: ImageRecord, error: str) -> ImageResult:
        """Of an image that failed: every column is there, so that the manifest loads as a table."""
        nothing = dict.fromkeys(("psnr", "ssim", "psnr_vae", "latent_mse", "nfe", "seconds", "inversion"))
        return cls(_row(record, "failed", error) | nothing | {"edits": {}})


def measured(
    batch: ImageBatch,
    encoded: Encoded,
    inversion: Inversion,
    rebuilt: torch.Tensor,
    reconstructions: torch.Tensor,
    provenance: Mapping[str, Any],
) -> list[ImageResult]:
    """The results of B inverted images, without edits.

    Args:
        batch: the images.
        encoded: theirs, z_0 and the autoencoder's ceiling.
        inversion: of them.
        rebuilt: z_0 as the sampler came back to it, [B, C, h, w].
        reconstructions: the same as images, [B, 3, H, W] in [0, 1].
        provenance: all that it takes to run the inversion again, but for the image's own facts.
    """
    columns = {
        "psnr": metrics.psnr(reconstructions, batch.images),
        "ssim": metrics.ssim(reconstructions, batch.images),
        "psnr_vae": encoded.psnr_vae,
        "latent_mse": metrics.mean_squared_error(rebuilt, encoded.latents),
        "nfe": inversion.nfe,
    }
    lists = {name: values.tolist() for name, values in columns.items()}
    results = []
    for row, record in enumerate(batch.records):
        values = {name: _finite_or_none(column[row]) for name, column in lists.items()}
        per_step = {name: getattr(inversion, name) for name in ("noise", "trajectory", "null_embeddings")}
        tensors = {"latent": inversion.latents[row]}
        tensors |= {name: levels[:, row] for name, levels in per_step.items() if levels is not None}
        facts = {
            **provenance,
            "file_name": record.file_name,
            "prompt": record.prompt,
            "image_sha256": batch.sha256[row],
            "time_ids": batch.time_ids[row].tolist(),
        }
        results.append(
            ImageResult(
                row=_row(record, "ok", None) | values | {"seconds": None, "inversion": None, "edits": {}},
                tensors={name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
                metadata={name: json.dumps(value) for name, value in facts.items()},
                reconstruction=reconstructions[row].cpu(),
            )
        )
    return results


def not_finite(tensor: torch.Tensor) -> list[int]:
    """Positions along the first axis that hold NaN or infinity."""
    rows: list[int] = (~tensor.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
    return rows


def _row(record: ImageRecord, status: str, error: str | None) -> dict[str, Any]:
    """The columns that every line of the manifest begins with; the metadata's own columns pass through."""
    return {
        **record.extra,
        "file_name": record.file_name,
        "status": status,
        "error": error,
        "prompt": record.prompt,
        "edit_prompt": record.edit_prompt,
    }


def _finite_or_none(value: float) -> float | None:
    """JSON has no infinity, which is the PSNR of an image rebuilt to the last bit."""
    return value if math.isfinite(value) else None
