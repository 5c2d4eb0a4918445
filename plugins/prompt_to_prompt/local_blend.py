"""Local blend: the edit is kept where the changed words attend to, and the image everywhere else."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .attention_replacement import WordMaps

FINEST_MAPS = 16 * 16
"""Positions of the maps that tell best where a word is, as in the paper."""


def blend_mask(maps: WordMaps, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Where the old words or the new ones are, [B, 1, h, w]: 1 or 0.

    Args:
        maps: of the words.
        size: (h, w) of the latents.
        threshold: share of the way from a map's weakest attention to its strongest from which on a word is there.
    """
    height, width = size
    sums = maps.at(FINEST_MAPS)
    scale = round((height * width / sums.shape[-1]) ** 0.5)
    coarse = sums.unflatten(-1, (-(-height // scale), -(-width // scale)))
    fine = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    weakest, strongest = fine.amin(dim=(-2, -1), keepdim=True), fine.amax(dim=(-2, -1), keepdim=True)
    there = (fine - weakest > threshold * (strongest - weakest)).any(dim=0)
    return there[:, None].float()
