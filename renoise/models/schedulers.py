"""Replaces a checkpoint's scheduler by another one of diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import diffusers
from diffusers import SchedulerMixin

from renoise.core.prediction_types import prediction_type
from renoise.errors import InputError

SINGLE_STEP = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
)
"""Schedulers that are known to work. Any other is tried, and refused where its step is not affine."""
FLOW_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
"""The scheduler that is known to work with models trained by flow matching."""
PROPERTIES_OF_THE_NETWORK = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
"""Settings that a network was trained with. Every scheduler of it needs the same, and classes have other defaults."""


def replace_scheduler(
    scheduler: SchedulerMixin,
    name: str | None,
    options: Mapping[str, Any] | None = None,
) -> SchedulerMixin:
    """Returns a scheduler of the class `name` with the configuration of `scheduler`.

    A configuration that does not mention `clip_sample` means false here. diffusers' default is true, which is right for
    pixels and wrong for latents.

    Args:
        scheduler: The checkpoint's.
        name: Class name in diffusers. None is the class of `scheduler`.
        options: Settings that differ from the configuration.

    Raises:
        InputError: diffusers has no such scheduler, or the scheduler has no such option. The message lists them.
    """
    kind = type(scheduler) if name is None else getattr(diffusers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, SchedulerMixin)):
        raise InputError(f"scheduler: diffusers has no {name!r}; these work: {', '.join(SINGLE_STEP)}")
    parameters = inspect.signature(kind.__init__).parameters
    known = [option for option in parameters if option != "self"]
    for option in options or {}:
        if option not in known:
            raise InputError(f"scheduler_options: {kind.__name__} has no {option!r}; it has {', '.join(known)}")
    config = _given_settings(scheduler)
    if "clip_sample" in known and "clip_sample" not in config and parameters["clip_sample"].default:
        config["clip_sample"] = False
    elif name is None and not options:
        return scheduler
    if kind is not type(scheduler):
        config["_class_name"] = type(scheduler).__name__  # diffusers then drops what only this class has
    try:
        return cast(Any, kind).from_config(config, **(options or {}))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(f"scheduler_options: {kind.__name__} rejects them: {error}") from error


def check_kind(scheduler: SchedulerMixin, is_flow: bool, checkpoint: str) -> None:
    """Checks that a scheduler and a network are both of flow matching, or neither is.

    Args:
        scheduler: The scheduler.
        is_flow: Whether the network is of flow matching.
        checkpoint: Its name, for the message.

    Raises:
        InputError: They do not fit. The message says what does.
    """
    name = type(scheduler).__name__
    if is_flow and prediction_type(scheduler) != "flow":
        raise InputError(
            f"scheduler: {name} cannot sample {checkpoint}, which was trained by flow matching; take {FLOW_SCHEDULER}"
        )
    if not is_flow and prediction_type(scheduler).startswith("flow"):
        raise InputError(
            f"scheduler: {name} is for models trained by flow matching, and {checkpoint} was not; these work: "
            f"{', '.join(SINGLE_STEP)}"
        )


def _given_settings(scheduler: SchedulerMixin) -> dict[str, Any]:
    """Returns a scheduler's configuration without what its class alone decided.

    diffusers notes the settings that were not given, and gives another class's defaults in their place. It also does so
    for what a pipeline corrected afterwards, such as `steps_offset`, which is therefore compared.
    """
    defaults = inspect.signature(type(scheduler).__init__).parameters
    left_out = {
        name
        for name in scheduler.config.get("_use_default_values", ())
        if name not in PROPERTIES_OF_THE_NETWORK and scheduler.config[name] == defaults[name].default
    }
    settings = scheduler.config.items()
    return {name: value for name, value in settings if name not in left_out and not name.startswith("_")}
