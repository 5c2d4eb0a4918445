"""How well an edit keeps the background, as PIE-Bench's tables say it (PnPInversion, arXiv 2310.01506, evaluation/).

Both images are multiplied by 1 − mask, and the metric runs over the whole frame: the region that was to change is black
in both. So the numbers depend on the size of the region. `functional.masked_psnr` and `masked_ssim` average over the
background alone instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from renoise.metrics.base import EditComparison, EditMetric, PairMetric
from renoise.metrics.lpips import LPIPSSqueeze
from renoise.metrics.reconstruction import MSE, PSNR, SSIM
from renoise.metrics.registry import register_metric
from renoise.utils.configurable import Configurable


def masks_of(comparison: EditComparison, name: str) -> Tensor:
    """Returns the masks of a comparison as float [B, 1, H, W].

    Args:
        comparison: B images and their edits.
        name: The metric that needs them, for the message.

    Raises:
        ValueError: There are none.
    """
    if comparison.masks is None:
        raise ValueError(f"masks: {name} needs a mask for each image, got None")
    return comparison.masks.to(comparison.images)[:, None]


class BackgroundMetric(EditMetric):
    """Compares edit and original where nothing was to change. An image without background has NaN."""

    uses_mask = True
    metric: PairMetric
    """Compares the edit with the original, both black outside of the background."""

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`."""
        background = 1 - masks_of(comparison, self.name)
        values = self.metric.compare(comparison.edits * background, comparison.images * background)
        return values.where(background.flatten(1).any(dim=1), torch.nan)


@register_metric
class BackgroundPSNR(BackgroundMetric):
    """Peak signal-to-noise ratio of the background, the edited region black in both images: `psnr_unedit_part`.

    Example:
        >>> import torch
        >>> from renoise.metrics import BackgroundPSNR, EditComparison
        >>> images, masks = torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.bool)
        >>> masks[:, :, 16:] = True
        >>> edits = images + 0.1
        >>> edits[:, :, :, 16:] = 1.0
        >>> BackgroundPSNR()(EditComparison(images, edits, ["a cat"], ["a dog"], masks))  # half of 0.1²
        tensor([23.0103])
    """

    name, title, metric = "background_psnr", "background PSNR (dB)", PSNR()
    format, higher_is_better = PSNR.format, PSNR.higher_is_better


@register_metric
class BackgroundSSIM(BackgroundMetric):
    """Structural similarity of the background, the edited region black in both images: `ssim_unedit_part`."""

    name, title, metric = "background_ssim", "background SSIM", SSIM()
    format, higher_is_better = SSIM.format, SSIM.higher_is_better


@register_metric
class BackgroundMSE(BackgroundMetric):
    """Mean squared error of the background, the edited region black in both images: `mse_unedit_part`."""

    name, title, metric = "background_mse", "background MSE", MSE()
    format, higher_is_better = MSE.format, MSE.higher_is_better


@register_metric
class BackgroundLPIPS(BackgroundMetric, Configurable):
    """LPIPS (SqueezeNet) of the background, the edited region black in both images: `lpips_unedit_part`.

    The images are black before they are scaled to [-1, 1].

    Args:
        weights: See `LPIPS`.

    Raises:
        InputError: See `LPIPS`.
    """

    name, title = "background_lpips", "background LPIPS"
    format, higher_is_better = LPIPSSqueeze.format, LPIPSSqueeze.higher_is_better

    def __init__(self, weights: str | None = None) -> None:
        self.metric = LPIPSSqueeze(weights=weights)
