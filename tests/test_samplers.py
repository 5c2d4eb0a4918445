from __future__ import annotations

import pytest
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler

from renoise.errors import InputError
from renoise.samplers import replace_scheduler


def test_no_name_keeps_the_checkpoints_own_sampler() -> None:
    scheduler = DDIMScheduler()
    assert replace_scheduler(scheduler, None) is scheduler


def test_another_sampler_takes_over_the_checkpoints_noise_schedule() -> None:
    scheduler = DDIMScheduler(beta_start=0.001, beta_end=0.01, prediction_type="v_prediction")
    replaced = replace_scheduler(scheduler, "EulerAncestralDiscreteScheduler")
    assert isinstance(replaced, EulerAncestralDiscreteScheduler)
    for name in ("beta_start", "beta_end", "prediction_type"):
        assert replaced.config[name] == scheduler.config[name]


def test_samplers_that_no_list_of_diffusers_calls_compatible_can_be_named_too() -> None:
    assert isinstance(replace_scheduler(DDIMScheduler(), "LCMScheduler"), LCMScheduler)


def test_an_unknown_name_is_answered_with_the_list_of_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"model\.scheduler: there is no 'DDIM'; there are DDIMScheduler, .*Euler.*LCM"
    ):
        replace_scheduler(DDIMScheduler(), "DDIM")
