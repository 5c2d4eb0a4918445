"""The checkpoint's sampler, or another of diffusers' by its class name."""

from __future__ import annotations

import inspect
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


def replace_scheduler(scheduler: SchedulerMixin, name: str | None) -> SchedulerMixin:
    """The sampler called `name` under the settings of `scheduler`; `scheduler` itself where `name` is None.

    Raises:
        InputError: diffusers holds no such sampler; the message lists those that work.
    """
    if name is None:
        return scheduler
    replacement = getattr(diffusers, name, None)
    if not (inspect.isclass(replacement) and issubclass(replacement, SchedulerMixin)):
        raise InputError(f"model.scheduler: there is no {name!r}; there are {', '.join(SINGLE_STEP)}")
    return cast(Any, replacement).from_config(scheduler.config)
