"""Presets: the settings of the paper, installed with the package and found by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from renoise.errors import InputError
from renoise.utils.alternatives import did_you_mean

Built = TypeVar("Built")
PACKAGE = "renoise_presets"


def preset_names() -> list[str]:
    """Returns the names of the presets, sorted.

    Example:
        >>> from renoise import preset_names
        >>> "sdxl_turbo" in preset_names()
        True
    """
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def preset_path(name: str) -> Path:
    """Returns the YAML file of a preset.

    Raises:
        InputError: There is no preset of this name. The message lists those that exist.
    """
    path = _folder() / f"{name}.yaml"
    if name not in preset_names():
        near = did_you_mean(name, preset_names())
        raise InputError(f"preset: there is no {name!r}; there are {', '.join(preset_names())}{near}")
    return path


def describe_presets() -> dict[str, str]:
    """Returns what each preset is, in a line: the first comment of its file."""
    first_lines = {name: preset_path(name).read_text(encoding="utf-8").partition("\n")[0] for name in preset_names()}
    return {name: line.lstrip("# ") for name, line in first_lines.items()}


def read_preset(*sources: str | Path) -> dict[str, Any]:
    """Reads presets and YAML files as nested dicts. Later ones override single values of earlier ones.

    Args:
        *sources: Names of presets, or paths of YAML files.

    Raises:
        InputError: There is no such preset or file, or a file is no YAML mapping.

    Example:
        >>> from renoise import read_preset
        >>> read_preset("sdxl_turbo")["model"]["num_inference_steps"]
        4
    """
    paths = [source if Path(source).suffix else preset_path(str(source)) for source in sources]
    content = OmegaConf.to_container(OmegaConf.merge({}, *map(_read_mapping, paths)), resolve=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def instantiate(base: type[Built], setting: Any) -> Built:
    """Makes an object from its setting in a YAML file, as the command line does.

    Args:
        base: What the object must be an instance of, such as `Inverter`.
        setting: {"class_path": …, "init_args": {…}}, or a class name alone.

    Raises:
        InputError: There is no such class, or it has no such option, or a value is out of range.

    Example:
        >>> from renoise import Inverter, instantiate
        >>> instantiate(Inverter, {"class_path": "ReNoise", "init_args": {"iterations": 4}}).init_args["iterations"]
        4
    """
    from jsonargparse import ArgumentError, ArgumentParser, Namespace  # presets are listed without slow imports

    from renoise.editing.discovery import load_editors
    from renoise.inversion.discovery import load_inverters

    load_editors()  # a class that is imported can be named without its module
    load_inverters()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=base)
    try:
        parsed: Namespace = parser.parse_object({"value": setting})
        value: Built = parser.instantiate(parsed).value
    except (ArgumentError, ValueError) as error:
        raise InputError(" ".join(str(error).split()).removeprefix('Parser key "value": ')) from error
    return value


def _read_mapping(path: str | Path) -> DictConfig:
    try:
        content = OmegaConf.load(path)
    except OSError as error:
        raise InputError(f"preset: {path} cannot be read: {error.strerror or error}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"preset: {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, DictConfig):
        raise InputError(f"preset: {path} must be a YAML mapping, such as `model: ...`")
    return content


def _folder() -> Path:
    return Path(str(files(PACKAGE)))
