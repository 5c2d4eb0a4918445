"""Replaces a checkpoint's scheduler by another one of diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import diffusers
from diffusers import SchedulerMixin

from renoise.errors import InputError

SINGLE_STEP = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
)
"""Schedulers that are known to work. Any other is tried, and refused where its step is not affine."""


def replace_scheduler(
    scheduler: SchedulerMixin,
    name: str | None,
    options: Mapping[str, Any] | None = None,
) -> SchedulerMixin:
    """Returns a scheduler of the class `name` with the configuration of `scheduler`.

    Args:
        scheduler: The checkpoint's.
        name: Class name in diffusers. None is the class of `scheduler`.
        options: Settings that differ from the configuration.

    Raises:
        InputError: diffusers has no such scheduler, or the scheduler has no such option. The message lists them.
    """
    if name is None and not options:
        return scheduler
    kind = type(scheduler) if name is None else getattr(diffusers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, SchedulerMixin)):
        raise InputError(f"scheduler: diffusers has no {name!r}; these work: {', '.join(SINGLE_STEP)}")
    known = [option for option in inspect.signature(kind.__init__).parameters if option != "self"]
    for option in options or {}:
        if option not in known:
            raise InputError(f"scheduler_options: {kind.__name__} has no {option!r}; it has {', '.join(known)}")
    try:
        return cast(Any, kind).from_config(scheduler.config, **(options or {}))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(f"scheduler_options: {kind.__name__} rejects them: {error}") from error
