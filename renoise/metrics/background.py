"""How well an edit keeps the background, as PIE-Bench's tables say it (PnPInversion, arXiv 2310.01506, evaluation/).

Both images are multiplied by 1 − mask, and the metric runs over the whole frame: the region that was to change is black
in both. So the numbers depend on the size of the region. `functional.masked_psnr` and `masked_ssim` average over the
background alone instead.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from renoise.metrics import functional
from renoise.metrics.base import EditComparison, EditMetric
from renoise.metrics.lpips import LPIPSSqueeze
from renoise.metrics.registry import register
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

    @abstractmethod
    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the metric of each image, [B].

        Args:
            images: Edits, black outside of the background, [B, 3, H, W] in [0, 1].
            targets: The originals, black in the same place, [B, 3, H, W] in [0, 1].
        """

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`."""
        background = 1 - masks_of(comparison, self.name)
        values = self.compare(comparison.edits * background, comparison.images * background)
        return values.where(background.flatten(1).any(dim=1), torch.nan)


@register
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

    name = "background_psnr"
    title = "background PSNR (dB)"
    format = ".2f"
    higher_is_better = True

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `BackgroundMetric` and `functional.psnr`."""
        return functional.psnr(images, targets)


@register
class BackgroundSSIM(BackgroundMetric):
    """Structural similarity of the background, the edited region black in both images: `ssim_unedit_part`."""

    name = "background_ssim"
    title = "background SSIM"
    format = ".3f"
    higher_is_better = True

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `BackgroundMetric` and `functional.ssim`."""
        return functional.ssim(images, targets)


@register
class BackgroundMSE(BackgroundMetric):
    """Mean squared error of the background, the edited region black in both images: `mse_unedit_part`."""

    name = "background_mse"
    title = "background MSE"
    format = ".2e"
    higher_is_better = False

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `BackgroundMetric` and `functional.mean_squared_error`."""
        return functional.mean_squared_error(images, targets)


@register
class BackgroundLPIPS(BackgroundMetric, Configurable):
    """LPIPS (SqueezeNet) of the background, the edited region black in both images: `lpips_unedit_part`.

    The images are black before they are scaled to [-1, 1].

    Args:
        weights: See `LPIPS`.

    Raises:
        InputError: See `LPIPS`.
    """

    name = "background_lpips"
    title = "background LPIPS"
    format = ".4f"
    higher_is_better = False

    def __init__(self, weights: str | None = None) -> None:
        self.lpips = LPIPSSqueeze(weights=weights)

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `BackgroundMetric` and `LPIPS`."""
        return self.lpips.compare(images, targets)
