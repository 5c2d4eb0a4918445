"""The metrics by name. Rows, summary, table and documentation are made from them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from renoise.errors import InputError
from renoise.metrics.base import AnyMetric, EditMetric, Metric

METRICS: dict[str, type[Metric]] = {}
"""All registered metrics of reconstructions by name."""
EDIT_METRICS: dict[str, type[EditMetric]] = {}
"""All registered metrics of edits by name. Metrics that only compare two images are in both."""

MetricSetting = str | Mapping[str, Mapping[str, Any]]
"""A metric as YAML has it: its name, or {name: its options}. The name can be the class path of an own metric."""

Registered = TypeVar("Registered", bound=type[AnyMetric])
Made = TypeVar("Made", bound=AnyMetric)


def register_metric(metric: Registered) -> Registered:
    """Adds a class to `METRICS`, `EDIT_METRICS` or both; a decorator.

    Args:
        metric: The class of the metric.

    Raises:
        ValueError: Another metric has the same name.

    Example:
        >>> from renoise import EditMetric, register_metric
        >>> from renoise.metrics import EDIT_METRICS
        >>> @register_metric
        ... class Size(EditMetric):
        ...     name, title, format, higher_is_better = "size", "pixels", ".0f", True
        ...
        ...     def __call__(self, comparison):
        ...         return comparison.edits[:, 0].flatten(1).isfinite().sum(dim=1)
        >>> EDIT_METRICS.pop("size").title
        'pixels'
    """
    other = METRICS.get(metric.name) or EDIT_METRICS.get(metric.name)
    if other not in (None, metric):
        raise ValueError(f"two metrics are called {metric.name!r}: {other.__name__}, {metric.__name__}")
    if issubclass(metric, Metric):
        METRICS[metric.name] = metric
    if issubclass(metric, EditMetric):
        EDIT_METRICS[metric.name] = metric
    return metric


def make_metrics(settings: Sequence[MetricSetting]) -> dict[str, Metric]:
    """Returns registered metrics of reconstructions by name, in the order given. Those with networks load them.

    Args:
        settings: Names of metrics, each once. A metric with options is a mapping: {"lpips_vgg": {"range": [0, 1]}}.

    Raises:
        InputError: There is no such metric or option, a name is given twice, or the weights of a network are not at
            hand.

    Example:
        >>> from renoise.metrics import make_metrics
        >>> [metric.title for metric in make_metrics(["psnr", "ssim"]).values()]
        ['PSNR (dB)', 'SSIM']
    """
    return _make(METRICS, settings)


def make_edit_metrics(settings: Sequence[MetricSetting]) -> dict[str, EditMetric]:
    """Returns registered metrics of edits by name, in the order given. Those with networks load them.

    Args:
        settings: See `make_metrics`.

    Raises:
        InputError: See `make_metrics`.

    Example:
        >>> from renoise import make_edit_metrics
        >>> [metric.title for metric in make_edit_metrics(["psnr", "background_mse"]).values()]
        ['PSNR (dB)', 'background MSE']
    """
    return _make(EDIT_METRICS, settings)


def metric_name(setting: MetricSetting) -> str:
    """Returns the name of a metric that may have options. A class path is imported, which registers the metric.

    Args:
        setting: The metric.

    Raises:
        InputError: It is neither a name nor a mapping of one name to options, or a class path leads to no metric.

    Example:
        >>> from renoise.metrics.registry import metric_name
        >>> metric_name("psnr"), metric_name({"lpips_vgg": {"range": [0, 1]}})
        ('psnr', 'lpips_vgg')
    """
    if isinstance(setting, str):
        return _import(setting).name if "." in setting else setting
    if len(setting) != 1 or not all(isinstance(options, Mapping) for options in setting.values()):
        raise InputError(f"metrics: give a name, or one name with its options, as {{psnr: {{}}}}, got {setting!r}")
    (name,) = setting
    return metric_name(name)


def _import(class_path: str) -> type[AnyMetric]:
    module, _, name = class_path.rpartition(".")
    try:
        metric = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"metrics: {class_path} cannot be imported: {error}") from error
    if not (isinstance(metric, type) and issubclass(metric, AnyMetric)):
        raise InputError(f"metrics: {class_path} is not a metric; derive it from renoise.Metric or renoise.EditMetric")
    return metric


def _make(registry: Mapping[str, type[Made]], settings: Sequence[MetricSetting]) -> dict[str, Made]:
    metrics: dict[str, Made] = {}
    for setting in settings:
        name = metric_name(setting)
        if name not in registry:
            raise InputError(f"metrics: there is no {name!r}; there are {', '.join(registry)}")
        if name in metrics:
            raise InputError(f"metrics: {name!r} is given twice; give each metric once")
        (options,) = ({},) if isinstance(setting, str) else setting.values()
        metrics[name] = _made(registry[name], options)
    return metrics


def _made(metric: type[Made], options: Mapping[str, Any]) -> Made:
    known = {} if metric.__init__ is object.__init__ else inspect.signature(metric).parameters
    for option in options:
        if option not in known:
            there_are = f"there are {', '.join(known)}" if known else "it has none"
            raise InputError(f"metrics: {metric.name} has no option {option!r}; {there_are}")
    try:
        return metric(**options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"metrics: {metric.name}: {error}") from error


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
