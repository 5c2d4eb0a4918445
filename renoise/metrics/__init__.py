"""How close two batches of images are. A metric is one class and one registration; see `renoise.metrics.base`."""

from renoise.metrics.base import METRICS, Comparison, Metric, make_metrics, register
from renoise.metrics.reconstruction import PSNR, PSNRVAE, SSIM, LatentMSE

__all__ = [
    "METRICS",
    "PSNR",
    "PSNRVAE",
    "SSIM",
    "Comparison",
    "LatentMSE",
    "Metric",
    "make_metrics",
    "register",
]
