"""Values of options that are written as YAML."""

from __future__ import annotations

from typing import Any

import yaml

from renoise.errors import InputError


def parse_yaml(option: str, text: str) -> Any:
    """Returns the value that a text means as YAML.

    Args:
        option: Name of the option, for the message.
        text: Its value, as given.

    Raises:
        InputError: It is not YAML.

    Example:
        >>> from renoise.utils.yaml_text import parse_yaml
        >>> parse_yaml("metrics", "[psnr, ssim]")
        ['psnr', 'ssim']
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{option}: {text} is not YAML: {' '.join(str(error).split())}") from error
