"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1: a learned distance between images."""

from __future__ import annotations

import os
import re
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from renoise.errors import InputError
from renoise.metrics.base import PairMetric
from renoise.metrics.networks import full_precision
from renoise.metrics.registry import register_metric
from renoise.utils.configurable import Configurable

RANGES = ((-1.0, 1.0), (0.0, 1.0))


class LPIPS(PairMetric, Configurable):
    """Weighted distance between unit-length features of a network trained on ImageNet, averaged over positions.

    The layers and the weights that people's judgments were fitted with are those of torchmetrics, which ships the
    weights. The network's own are torchvision's: the file that `torchvision.models` downloads, or `weights`.

    Args:
        range: What images in [0, 1] are mapped to first: [-1, 1], as LPIPS was trained and nearly everybody uses it, or
            [0, 1], which feeds them as they are: the ReNoise paper's numbers are of this kind (with VGG).
        weights: A .safetensors file with the state dictionary of torchvision's network, instead of torchvision's own.

    Raises:
        ValueError: `range` is neither.
        InputError: There are no weights. The message says what to download.
    """

    network: ClassVar[str]
    """The network's name in torchvision."""
    kind: ClassVar[str]
    """The network's name in torchmetrics."""
    format = ".4f"
    higher_is_better = False

    def __init__(self, range: tuple[float, float] = (-1.0, 1.0), weights: str | None = None) -> None:
        if tuple(range) not in RANGES:
            raise ValueError(f"range must be [-1, 1] or [0, 1], got {list(range)}")
        self.range = range
        self.lpips = self._load(weights)

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `PairMetric`."""
        low, high = self.range
        with full_precision(images.device):
            scaled = [low + (high - low) * each.float() for each in (images, targets)]
            distances: Tensor = self.lpips.to(images.device)(*scaled)
        return distances.flatten()

    def _load(self, weights: str | None) -> nn.Module:
        # torchmetrics' public classes download a network, and average over the batch.
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        lpips: nn.Module = _NoTrainLpips(net=self.kind, pnet_rand=True)  # with the fitted weights
        backbone = lpips.get_submodule("net")
        state = self._torchvision_weights() if weights is None else _read(weights, self.name)
        # `slice2.5.weight` and `slices.2.5.weight` are torchvision's `features.5.weight`.
        names = {name: re.sub(r"^(slice\d|slices\.\d)", "features", name) for name in backbone.state_dict()}
        try:
            backbone.load_state_dict({name: state[source] for name, source in names.items()})
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"metrics: {self.name}: {weights} is not the state dictionary of torchvision's {self.network}: "
                f"{' '.join(str(error).split())}"
            ) from error
        return lpips

    def _torchvision_weights(self) -> dict[str, Tensor]:
        from torchvision.models import get_model_weights

        weights = get_model_weights(self.network).DEFAULT
        path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
        if not os.path.exists(path):
            raise InputError(
                f"metrics: {self.name} needs torchvision's {self.network}: download {weights.url} to {path}, "
                "or give a .safetensors file as `weights`"
            )
        state: dict[str, Tensor] = weights.get_state_dict(weights_only=True, map_location="cpu")
        return state


def _read(path: str, name: str) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"metrics: {name}: weights: {path} cannot be read as a .safetensors file: {error}") from error


@register_metric
class LPIPSVGG(LPIPS):
    """LPIPS of VGG-16 on images scaled to [-1, 1]; with `range` [0, 1], the ReNoise paper's."""

    name, title, network, kind = "lpips_vgg", "LPIPS (VGG)", "vgg16", "vgg"


@register_metric
class LPIPSAlex(LPIPS):
    """LPIPS of AlexNet on images scaled to [-1, 1]: the default of the `lpips` package."""

    name, title, network, kind = "lpips_alex", "LPIPS (AlexNet)", "alexnet", "alex"


@register_metric
class LPIPSSqueeze(LPIPS):
    """LPIPS of SqueezeNet 1.1 on images scaled to [-1, 1]: the one of PIE-Bench's tables."""

    name, title, network, kind = "lpips_squeeze", "LPIPS (SqueezeNet)", "squeezenet1_1", "squeeze"
