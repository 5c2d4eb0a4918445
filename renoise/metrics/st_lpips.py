"""ST-LPIPS (Ghildyal and Liu, ECCV 2022, arXiv 2207.13686): LPIPS that tolerates shifts by a few pixels."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from renoise.errors import InputError
from renoise.metrics.base import PairMetric
from renoise.metrics.networks import full_precision
from renoise.metrics.registry import register_metric


class STLPIPS(PairMetric):
    """The distance of the package `stlpips-pytorch`, on images scaled to [-1, 1]. Its wheel contains all weights.

    Raises:
        InputError: The package is not installed.
    """

    kind: ClassVar[str]
    """The network's name in the package."""
    format = ".4f"
    higher_is_better = False

    def __init__(self) -> None:
        try:
            from stlpips_pytorch.stlpips import LPIPS
        except ImportError as error:
            raise InputError(
                f"metrics: {self.name} needs the package stlpips-pytorch, which contains its weights ({error}): "
                'pip install "renoise[stlpips]"'
            ) from error
        self.lpips = LPIPS(net=self.kind, variant="shift_tolerant", verbose=False).requires_grad_(False)

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `PairMetric`."""
        with full_precision(images.device):
            distances: Tensor = self.lpips.to(images.device)(images.float(), targets.float(), normalize=True)
        return distances.flatten()


@register_metric
class STLPIPSAlex(STLPIPS):
    """ST-LPIPS of AlexNet, a learned distance that needs no download beside its package and tolerates small shifts."""

    name, title, kind = "st_lpips_alex", "ST-LPIPS (AlexNet)", "alex"


@register_metric
class STLPIPSVGG(STLPIPS):
    """ST-LPIPS of VGG-16, a learned distance that needs no download beside its package and tolerates small shifts."""

    name, title, kind = "st_lpips_vgg", "ST-LPIPS (VGG)", "vgg"
