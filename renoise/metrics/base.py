"""The interface of a metric, and the registry that rows, summary, table and documentation are made from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from torch import Tensor

from renoise.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """B images and what the model made of them: everything that a metric may compare.

    Args:
        images: The originals, float32 [B, 3, H, W] in [0, 1].
        reconstructions: The images that sampling from the inversion gives, [B, 3, H, W] in [0, 1].
        latents: z_0 as encoded from the originals, [B, C, h, w].
        rebuilt_latents: z_0 as sampling gives it, [B, C, h, w].
        decoded: `latents` decoded, without any inversion: the autoencoder's own round trip, [B, 3, H, W] in [0, 1].
            None where no metric of the run uses it.

    Example:
        >>> import torch
        >>> from renoise import Comparison
        >>> from renoise.metrics import LatentMSE
        >>> images, latents = torch.rand(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> LatentMSE()(Comparison(images, images, latents, latents + 0.5, images))
        tensor([0.2500, 0.2500])
    """

    images: Tensor
    reconstructions: Tensor
    latents: Tensor
    rebuilt_latents: Tensor
    decoded: Tensor | None = None


class Metric(ABC):
    """A number for each image of a batch. A metric is one subclass with the attributes below and `@register`.

    Example:
        >>> from renoise.metrics import METRICS, Metric, register
        >>> @register
        ... class LargestError(Metric):
        ...     name, title, format, higher_is_better = "largest_error", "largest error", ".3f", False
        ...
        ...     def __call__(self, comparison):
        ...         return (comparison.reconstructions - comparison.images).abs().amax(dim=(1, 2, 3))
        >>> METRICS.pop("largest_error").title
        'largest error'
    """

    name: ClassVar[str]
    """The column of the manifest, the key in summary.json and the name in `model.metrics`."""
    title: ClassVar[str]
    """Heading in tables, with the unit."""
    format: ClassVar[str]
    """Format specification of a value in tables, such as ".2f"."""
    higher_is_better: ClassVar[bool]
    uses_decoded: ClassVar[bool] = True
    """Whether it reads `Comparison.decoded`. A run whose metrics do not saves one decoding of every image."""

    @abstractmethod
    def __call__(self, comparison: Comparison) -> Tensor:
        """Returns the metric of each image, [B].

        Args:
            comparison: B images.
        """


METRICS: dict[str, type[Metric]] = {}
"""All registered metrics by name."""

Registered = TypeVar("Registered", bound=type[Metric])


def register(metric: Registered) -> Registered:
    """Adds a class to `METRICS`; a decorator.

    Args:
        metric: The class of the metric.

    Raises:
        ValueError: Another metric has the same name.
    """
    if METRICS.get(metric.name, metric) is not metric:
        raise ValueError(f"two metrics are called {metric.name!r}: {METRICS[metric.name].__name__}, {metric.__name__}")
    METRICS[metric.name] = metric
    return metric


def make_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Returns registered metrics by name, in the order given.

    Args:
        names: Names of metrics, each once.

    Raises:
        InputError: There is no such metric, or a name is given twice.

    Example:
        >>> from renoise.metrics import make_metrics
        >>> [metric.title for metric in make_metrics(["psnr", "ssim"]).values()]
        ['PSNR (dB)', 'SSIM']
    """
    metrics: dict[str, Metric] = {}
    for name in names:
        if name not in METRICS:
            raise InputError(f"metrics: there is no {name!r}; there are {', '.join(METRICS)}")
        if name in metrics:
            raise InputError(f"metrics: {name!r} is given twice; give each metric once")
        metrics[name] = METRICS[name]()
    return metrics


def as_markdown(metrics: Iterable[type[Metric]]) -> str:
    """Returns a Markdown table of metrics for the documentation. The docstrings' first lines say what they measure.

    Args:
        metrics: Classes of metrics.
    """
    lines = ["| metric | column | what it measures |", "|---|---|---|"]
    for metric in metrics:
        measures = (metric.__doc__ or "").strip().splitlines()[0]
        better = "Higher" if metric.higher_is_better else "Lower"
        lines.append(f"| {metric.title} | `{metric.name}` | {measures} {better} is better. |")
    return "".join(f"{line}\n" for line in lines)
