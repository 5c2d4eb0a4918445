"""The checkpoint's sampler, or another of diffusers' by its class name."""

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
"""Those known to be invertible; any other of diffusers' is tried, and refused where its step is not affine."""


def replace_scheduler(
    scheduler: SchedulerMixin, name: str | None, options: Mapping[str, Any] | None = None
) -> SchedulerMixin:
    """The sampler called `name` (None: the class of `scheduler`) under the settings of `scheduler`, but for `options`.

    Raises:
        InputError: diffusers holds no such sampler, or it has no such option; the message lists what there is.
    """
    if name is None and not options:
        return scheduler
    sampler = type(scheduler) if name is None else getattr(diffusers, name, None)
    if not (inspect.isclass(sampler) and issubclass(sampler, SchedulerMixin)):
        raise InputError(f"model.scheduler: there is no {name!r}; there are {', '.join(SINGLE_STEP)}")
    known = [option for option in inspect.signature(sampler.__init__).parameters if option != "self"]
    for option in options or {}:
        if option not in known:
            raise InputError(
                f"model.scheduler_options: {sampler.__name__} has no {option!r}; it has {', '.join(known)}"
            )
    try:
        return cast(Any, sampler).from_config(scheduler.config, **(options or {}))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(f"model.scheduler_options: {sampler.__name__} cannot be made: {error}") from error
