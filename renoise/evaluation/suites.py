"""Suites: what `renoise evaluate` compares, each a YAML file. Those of the package are found by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from renoise.errors import InputError
from renoise.metrics.registry import EDIT_METRICS, METRICS, MetricSetting, metric_name
from renoise.utils.alternatives import did_you_mean

PACKAGE = "renoise_suites"
KINDS = {"metrics": "list", "methods": "mapping", "editors": "mapping", "reference": "mapping"}
METHOD_KEYS = {"model", "data", "sweep", "editors"}
EDITOR_KEYS = {"class_path", "init_args", "sweep"}
DEFAULT_METRICS = ("psnr", "ssim", "latent_mse")
NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^\.')
"""What the name of a folder cannot contain on every file system."""


@dataclass(frozen=True)
class Method:
    """One row of the tables: one inversion of every image, and its edits.

    Args:
        name: Of the row and its folder.
        curve: Name of the methods that differ in one option alone: a curve of the figures.
        model: Options of `renoise predict` under `model`, which differ from those of the other methods.
        data: Likewise, under `data`.
        editors: Names of the suite's editors that edit its inversions. None is all.
    """

    name: str
    curve: str
    model: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    editors: Sequence[str] | None = None


@dataclass(frozen=True)
class SuiteEditor:
    """An editing method of a suite.

    Args:
        name: Of the row.
        curve: Name of the editors that differ in one option alone.
        setting: {"class_path": …, "init_args": …}.
    """

    name: str
    curve: str
    setting: Mapping[str, Any]


@dataclass(frozen=True)
class Suite:
    """What is compared, and how.

    Args:
        name: Name of the file.
        methods: What is compared.
        metrics: What to measure: of reconstructions, of edits, or of both where a metric compares any two images.
        editors: What edits every inversion. None takes the command line's editors.
        reference: Others' numbers: {"source": where they are from, "values": {method: {metric: mean}}}.
    """

    name: str
    methods: Sequence[Method]
    metrics: Sequence[MetricSetting]
    editors: Sequence[SuiteEditor] | None = None
    reference: Mapping[str, Any] = field(default_factory=dict)

    def with_metrics(self, settings: Sequence[MetricSetting] | None, options: Mapping[str, dict[str, Any]]) -> Suite:
        """Returns the suite with other metrics, or with other options of some.

        Args:
            settings: The metrics. None keeps the suite's.
            options: By name of the metric.

        Raises:
            InputError: There is no such metric, or no metric is given.
        """
        given = self.metrics if settings is None else settings
        chosen = {metric_name(setting): setting for setting in given}
        for name, changed in options.items():
            setting = chosen.get(name, name)
            given_name, before = (setting, {}) if isinstance(setting, str) else next(iter(setting.items()))
            chosen[name] = {given_name: {**before, **changed}}
        known = METRICS | EDIT_METRICS
        for name in chosen:
            if name not in known:
                raise InputError(f"metrics: there is no {name!r}; there are {', '.join(known)}")
        if not chosen or len(chosen) < len(given):
            raise InputError(f"metrics: give at least one, and each once, got {list(given)}")
        return replace(self, metrics=list(chosen.values()))

    def editors_of(self, method: Method) -> list[SuiteEditor]:
        """Returns the suite's editors that edit the inversions of a method."""
        return [each for each in self.editors or () if method.editors is None or each.curve in method.editors]

    @property
    def metric_names(self) -> list[str]:
        """Names of the metrics, in order."""
        return [metric_name(setting) for setting in self.metrics]

    def metrics_in(self, registry: Mapping[str, Any]) -> list[MetricSetting]:
        """Returns the metrics of reconstructions (`METRICS`) or of edits (`EDIT_METRICS`)."""
        return [setting for setting in self.metrics if metric_name(setting) in registry]


def suite_names() -> list[str]:
    """Returns the names of the suites in the package, sorted."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def describe_suites() -> dict[str, str]:
    """Returns what each suite is, in a line: the first comment of its file."""
    paths = {name: _folder() / f"{name}.yaml" for name in suite_names()}
    return {name: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for name, path in paths.items()}


def read_suite(source: str) -> Suite:
    """Reads a suite.

    Args:
        source: Name of a suite, or path of a YAML file.

    Raises:
        InputError: There is no such suite, or the file is not a suite.

    Example:
        >>> from renoise.evaluation.suites import read_suite
        >>> read_suite("renoise_table1").methods[0].name
        '50-50-0'
    """
    path = Path(source) if Path(source).suffix else _folder() / f"{source}.yaml"
    if not path.exists():
        near = did_you_mean(source, names := suite_names())
        raise InputError(f"suite: there is no {source!r}; there are {', '.join(names)}, or give a YAML file{near}")
    content = _read(path)
    given = content.get("editors", {})
    editors = [editor for name, setting in given.items() for editor in _editors(path, name, setting)]
    methods = [method for name, setting in content["methods"].items() for method in _methods(path, name, setting)]
    _check_names(path, methods, editors)
    suite = Suite(
        path.stem,
        methods,
        content.get("metrics", DEFAULT_METRICS),
        editors if "editors" in content else None,
        content.get("reference", {}),
    )
    return suite.with_metrics(None, {})


def _read(path: Path) -> dict[str, Any]:
    """Returns the content of a suite's file, whose parts are lists and mappings where they must be.

    Raises:
        InputError: They are not, or the file cannot be read.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"suite: {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.get("methods"):
        raise InputError(f"suite: {path} must be a mapping with `methods`, such as `methods: {{ddim: {{model: …}}}}`")
    _check_keys(path, content, set(KINDS))
    for key, value in content.items():
        kind = KINDS[str(key)]
        if not isinstance(value, list if kind == "list" else dict):
            raise InputError(f"suite: {path}: `{key!s}` must be a {kind}, got {value!r}")
    return {str(key): value for key, value in content.items()}


def _check_names(path: Path, methods: Sequence[Method], editors: Sequence[SuiteEditor]) -> None:
    """Raises InputError where two methods or editors have one name, or a method names an editor that is not there."""
    for names in ([method.name for method in methods], [editor.name for editor in editors]):
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"suite: {path} has {twice!r} twice; give each method and each editor a name of its own")
    for method in methods:
        for name in method.editors or ():
            if name not in {editor.curve for editor in editors}:
                raise InputError(f"suite: {path}: {method.name}: there is no editor {name!r} in `editors`")


def _methods(path: Path, name: Any, setting: Any) -> Iterator[Method]:
    """Yields the methods of one entry: one, or one for each value of its `sweep`."""
    if NOT_IN_NAMES.search(str(name)):
        raise InputError(f"suite: {path}: a method's name is that of a folder, which {name!r} cannot be")
    setting = {} if setting is None else setting
    _check_keys(path, setting, METHOD_KEYS, name)
    for title, model in _swept(path, str(name), setting.get("model") or {}, setting.get("sweep")):
        yield Method(title, str(name), model, setting.get("data") or {}, setting.get("editors"))


def _editors(path: Path, name: Any, setting: Any) -> Iterator[SuiteEditor]:
    """Yields the editors of one entry, see `_methods`."""
    _check_keys(path, setting, EDITOR_KEYS, name)
    init_args = setting.get("init_args") or {}
    for title, options in _swept(path, str(name), init_args, setting.get("sweep")):
        yield SuiteEditor(title, str(name), {"class_path": setting.get("class_path", name), "init_args": options})


def _swept(path: Path, name: str, options: Any, sweep: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields options under their name: as they are, or once for each value of the one that `sweep` names."""
    if sweep is None:
        yield name, options
        return
    if not isinstance(sweep, dict) or len(sweep) != 1 or not all(isinstance(values, list) for values in sweep.values()):
        raise InputError(f"suite: {path}: {name}: `sweep` must be one option with a list of its values")
    ((option, values),) = sweep.items()
    for value in values:
        changed = OmegaConf.create(options)
        OmegaConf.update(changed, str(option), value)
        swept = OmegaConf.to_container(changed)
        assert isinstance(swept, dict)
        yield f"{name}, {str(option).rpartition('.')[2]} {value}", {str(key): each for key, each in swept.items()}


def _check_keys(path: Path, content: Any, known: set[str], name: Any = "") -> None:
    place = f"{path}: {name}" if name else str(path)
    if not isinstance(content, dict):
        raise InputError(f"suite: {place} must be a mapping of {', '.join(sorted(known))}, got {content!r}")
    for key in content:
        if key not in known:
            raise InputError(f"suite: {place} has no key {key!r}; there are {', '.join(sorted(known))}")


def _folder() -> Path:
    return Path(str(files(PACKAGE)))
