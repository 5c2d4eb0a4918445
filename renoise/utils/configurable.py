"""Objects that remember their constructor's arguments, so that a run can be described and repeated."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self


class Configurable:
    """A class whose instances keep their constructor's arguments in `init_args`, defaults included.

    Example:
        >>> from renoise.utils.configurable import Configurable
        >>> class Blur(Configurable):
        ...     def __init__(self, radius: int, passes: int = 1) -> None:
        ...         self.radius = radius
        >>> Blur(3).init_args
        {'radius': 3, 'passes': 1}
    """

    init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Records the arguments; `__init__` gets them unchanged."""
        self = super().__new__(cls)
        has_options = cls.__init__ is not object.__init__  # whose signature is of any arguments, and takes none
        signature = inspect.signature(cls.__init__ if has_options else _without_options)
        bound = signature.bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()  # the first is `self`
        init_args: dict[str, Any] = {}
        for name, value in given:
            is_kwargs = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            init_args |= value if is_kwargs else {name: value}
        object.__setattr__(self, "init_args", init_args)  # a frozen dataclass may be configurable, too
        return self


def _without_options(self: object) -> None:
    """Has the signature of a constructor without options."""


def describe(value: Any) -> Any:
    """Returns a setting in JSON's types.

    Args:
        value: A setting. A `Configurable` becomes {"class_path": …, "init_args": …}, as in a YAML file; a dataclass a
            dictionary of its fields; a path a string.

    Example:
        >>> from pathlib import Path
        >>> from renoise.utils.configurable import describe
        >>> describe({"root": Path("photos"), "weights": (0.5, 0.5)})
        {'root': 'photos', 'weights': [0.5, 0.5]}
    """
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
