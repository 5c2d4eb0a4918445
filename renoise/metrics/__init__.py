"""How close two batches of images are. A metric is one class and one registration; see `renoise.metrics.base`."""

# The order is that of registration, in which documentation and messages list the metrics.
# isort: off
from renoise.metrics.base import Comparison, EditComparison, EditMetric, Metric, PairMetric
from renoise.metrics.registry import EDIT_METRICS, METRICS, make_edit_metrics, make_metrics, register_metric
from renoise.metrics.reconstruction import MSE, PSNR, PSNRVAE, SSIM, LatentMSE
from renoise.metrics.lpips import LPIPSVGG, LPIPSAlex, LPIPSSqueeze
from renoise.metrics.st_lpips import STLPIPSVGG, STLPIPSAlex
from renoise.metrics.structure import StructureDistance
from renoise.metrics.background import BackgroundLPIPS, BackgroundMSE, BackgroundPSNR, BackgroundSSIM
from renoise.metrics.clip import CLIPScore, CLIPScoreEdited, CLIPScoreSource

# isort: on

__all__ = [
    "EDIT_METRICS",
    "LPIPSVGG",
    "METRICS",
    "MSE",
    "PSNR",
    "PSNRVAE",
    "SSIM",
    "STLPIPSVGG",
    "BackgroundLPIPS",
    "BackgroundMSE",
    "BackgroundPSNR",
    "BackgroundSSIM",
    "CLIPScore",
    "CLIPScoreEdited",
    "CLIPScoreSource",
    "Comparison",
    "EditComparison",
    "EditMetric",
    "LPIPSAlex",
    "LPIPSSqueeze",
    "LatentMSE",
    "Metric",
    "PairMetric",
    "STLPIPSAlex",
    "StructureDistance",
    "make_edit_metrics",
    "make_metrics",
    "register_metric",
]
