"""Local blend: the edit is kept where the changed words attend to, and the image everywhere else."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .word_maps import WordMaps


def blend(maps: WordMaps, threshold: float, source: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """`edited` where the changed words are and `source` elsewhere, [B, channels, height, width]; latents or pixels.

    Args:
        maps: of the words.
        threshold: see `blend_mask`.
        source: of the images.
        edited: of their edits.
    """
    mask = blend_mask(maps, (source.shape[-2], source.shape[-1]), threshold)
    return torch.where(mask, edited, source)


def blend_mask(maps: WordMaps, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Where the old words or the new ones are, bool [B, 1, height, width].

    Args:
        maps: of the words.
        size: (height, width) of the latents or pixels to part.
        threshold: share of the way from a map's weakest attention to its strongest from which on a word is there.
    """
    fine = F.interpolate(maps.summed(), size=size, mode="bilinear", align_corners=False)
    weakest, strongest = fine.amin(dim=(-2, -1), keepdim=True), fine.amax(dim=(-2, -1), keepdim=True)
    there = (fine - weakest > threshold * (strongest - weakest)).any(dim=0)
    return there[:, None]
