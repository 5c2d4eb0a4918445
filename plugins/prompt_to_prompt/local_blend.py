"""Local blend: keeps the edit where the changed words attend to, and the image everywhere else."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .word_maps import WordMaps


def blend(maps: WordMaps, threshold: float, source: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """Returns `edited` where the changed words attend to, and `source` elsewhere.

    Args:
        maps: Attention maps of the changed words.
        threshold: See `blend_mask`.
        source: Latents or pixels of the images, [B, C, H, W].
        edited: Latents or pixels of their edits, [B, C, H, W].
    """
    mask = blend_mask(maps, (source.shape[-2], source.shape[-1]), threshold)
    return torch.where(mask, edited, source)


def blend_mask(maps: WordMaps, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Returns where the changed words of the source or of the target attend to, bool [B, 1, H, W].

    Args:
        maps: Attention maps of the changed words.
        size: (H, W) of the latents or pixels.
        threshold: Attention above minimum + threshold · (maximum − minimum) of its map counts, in (0, 1).
    """
    resized = F.interpolate(maps.summed(), size=size, mode="bilinear", align_corners=False)  # [2, B, H, W]
    minimum, maximum = resized.amin(dim=(-2, -1), keepdim=True), resized.amax(dim=(-2, -1), keepdim=True)
    attended = resized - minimum > threshold * (maximum - minimum)
    return attended.any(dim=0)[:, None]
