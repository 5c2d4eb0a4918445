"""The checkpoint's sampler, or another of diffusers' by its class name."""

from __future__ import annotations

from diffusers import SchedulerMixin

from renoise.errors import InputError


def replace_scheduler(scheduler: SchedulerMixin, name: str | None) -> SchedulerMixin:
    """The sampler called `name` under the settings of `scheduler`; `scheduler` itself where `name` is None.

    Raises:
        InputError: diffusers holds no such sampler for this kind of model; the message lists those that it does.
    """
    if name is None:
        return scheduler
    compatible = {type(scheduler).__name__: type(scheduler)}
    compatible |= {candidate.__name__: candidate for candidate in scheduler.compatibles}
    if name not in compatible:
        raise InputError(f"model.scheduler: there is no {name!r}; there are {', '.join(sorted(compatible))}")
    return compatible[name].from_config(scheduler.config)
