"""Objects that remember what they were made with, so that a run can be described and repeated."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self


class Configurable:
    """A class whose instances keep their constructor's arguments in `init_args`, defaults included."""

    init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Records the arguments; `__init__` gets them unchanged."""
        self = super().__new__(cls)
        arguments = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        arguments.apply_defaults()
        self.init_args = dict(list(arguments.arguments.items())[1:])  # without `self`
        return self


def describe(value: Any) -> Any:
    """Returns a setting in JSON's types: objects become {"class_path": …, "init_args": …}, as in a YAML file."""
    if isinstance(value, Configurable):
        init_args = {name: describe(argument) for name, argument in value.init_args.items()}
        return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": init_args}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [describe(item) for item in value]
    return str(value) if isinstance(value, Path) else value
