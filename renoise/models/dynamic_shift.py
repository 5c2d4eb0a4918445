"""The shift of a sampler's noise levels that grows with the size of the image."""

from __future__ import annotations

from diffusers import SchedulerMixin
from diffusers.pipelines.flux.pipeline_flux import calculate_shift


def image_shift(scheduler: SchedulerMixin, tokens: int) -> float:
    """Returns diffusers' μ, linear in the number of tokens of an image.

    Args:
        scheduler: Has `base_shift` at `base_image_seq_len` tokens and `max_shift` at `max_image_seq_len`.
        tokens: Of one image.

    Example:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> from renoise.models.dynamic_shift import image_shift
        >>> image_shift(FlowMatchEulerDiscreteScheduler(base_shift=0.5, max_shift=1.0), tokens=4096)
        1.0
    """
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    return float(calculate_shift(tokens, *(scheduler.config[name] for name in names)))
