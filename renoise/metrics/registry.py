"""The metrics by name. Rows, summary, table and documentation are made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from renoise.errors import InputError
from renoise.metrics.base import AnyMetric, EditMetric, Metric

METRICS: dict[str, type[Metric]] = {}
"""All registered metrics of reconstructions by name."""
EDIT_METRICS: dict[str, type[EditMetric]] = {}
"""All registered metrics of edits by name. Metrics that only compare two images are in both."""

Registered = TypeVar("Registered", bound=type[AnyMetric])
Made = TypeVar("Made", bound=AnyMetric)


def register(metric: Registered) -> Registered:
    """Adds a class to `METRICS`, `EDIT_METRICS` or both; a decorator.

    Args:
        metric: The class of the metric.

    Raises:
        ValueError: Another metric has the same name.
    """
    other = METRICS.get(metric.name) or EDIT_METRICS.get(metric.name)
    if other not in (None, metric):
        raise ValueError(f"two metrics are called {metric.name!r}: {other.__name__}, {metric.__name__}")
    if issubclass(metric, Metric):
        METRICS[metric.name] = metric
    if issubclass(metric, EditMetric):
        EDIT_METRICS[metric.name] = metric
    return metric


def make_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Returns registered metrics of reconstructions by name, in the order given. Those with networks load them.

    Args:
        names: Names of metrics, each once.

    Raises:
        InputError: There is no such metric, a name is given twice, or the weights of a network are not at hand.

    Example:
        >>> from renoise.metrics import make_metrics
        >>> [metric.title for metric in make_metrics(["psnr", "ssim"]).values()]
        ['PSNR (dB)', 'SSIM']
    """
    return _make(METRICS, names)


def make_edit_metrics(names: Sequence[str]) -> dict[str, EditMetric]:
    """Returns registered metrics of edits by name, in the order given. Those with networks load them.

    Args:
        names: Names of metrics, each once.

    Raises:
        InputError: There is no such metric, a name is given twice, or the weights of a network are not at hand.

    Example:
        >>> from renoise import make_edit_metrics
        >>> [metric.title for metric in make_edit_metrics(["psnr", "background_mse"]).values()]
        ['PSNR (dB)', 'background MSE']
    """
    return _make(EDIT_METRICS, names)


def _make(registry: Mapping[str, type[Made]], names: Sequence[str]) -> dict[str, Made]:
    metrics: dict[str, Made] = {}
    for name in names:
        if name not in registry:
            raise InputError(f"metrics: there is no {name!r}; there are {', '.join(registry)}")
        if name in metrics:
            raise InputError(f"metrics: {name!r} is given twice; give each metric once")
        metrics[name] = registry[name]()
    return metrics


def as_markdown(metrics: Iterable[type[AnyMetric]]) -> str:
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
