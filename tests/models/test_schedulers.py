from __future__ import annotations

from typing import Any

import pytest
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler

from renoise.errors import InputError
from renoise.models.schedulers import replace_scheduler


def test_without_a_name_the_checkpoints_own_scheduler_is_kept() -> None:
    scheduler = DDIMScheduler()
    assert replace_scheduler(scheduler, None) is scheduler


def test_another_scheduler_gets_the_checkpoints_noise_schedule() -> None:
    scheduler = DDIMScheduler(beta_start=0.001, beta_end=0.01, prediction_type="v_prediction")
    replaced = replace_scheduler(scheduler, "EulerAncestralDiscreteScheduler")
    assert isinstance(replaced, EulerAncestralDiscreteScheduler)
    for name in ("beta_start", "beta_end", "prediction_type"):
        assert replaced.config[name] == scheduler.config[name]


def test_a_scheduler_that_diffusers_does_not_list_as_compatible_works_too() -> None:
    assert isinstance(replace_scheduler(DDIMScheduler(), "LCMScheduler"), LCMScheduler)


def test_an_unknown_name_is_refused_with_a_list_of_schedulers_that_work() -> None:
    with pytest.raises(
        InputError, match=r"^scheduler: diffusers has no 'DDIM'; these work: DDIMScheduler, .*Euler.*LCM"
    ):
        replace_scheduler(DDIMScheduler(), "DDIM")


def test_options_override_the_checkpoints_settings_and_keep_the_others() -> None:
    scheduler = DDIMScheduler(beta_start=0.001, beta_end=0.01, timestep_spacing="leading", clip_sample=True)
    options = {"timestep_spacing": "trailing", "clip_sample": False}
    replaced = replace_scheduler(scheduler, None, options)
    assert isinstance(replaced, DDIMScheduler)
    assert dict(replaced.config) == dict(scheduler.config) | options
    assert (scheduler.config.timestep_spacing, scheduler.config.clip_sample) == ("leading", True)


def test_options_also_work_with_another_scheduler() -> None:
    scheduler = DDIMScheduler(beta_start=0.001, beta_end=0.01, timestep_spacing="leading")
    options = {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    replaced = replace_scheduler(scheduler, "EulerAncestralDiscreteScheduler", options)
    assert isinstance(replaced, EulerAncestralDiscreteScheduler)
    assert replaced.config.beta_start == 0.001
    assert {name: replaced.config[name] for name in options} == options


@pytest.mark.parametrize("options", [None, {}])
def test_without_options_the_checkpoints_own_scheduler_is_kept(options: dict[str, Any] | None) -> None:
    scheduler = DDIMScheduler()
    assert replace_scheduler(scheduler, None, options) is scheduler


@pytest.mark.parametrize("name", [None, "DDIMScheduler"])
@pytest.mark.parametrize("option", ["spacing", "self", "use_karras_sigmas"])
def test_an_unknown_option_is_refused_with_the_schedulers_options(name: str | None, option: str) -> None:
    message = rf"^scheduler_options: DDIMScheduler has no '{option}'; it has .*beta_start.*timestep_spacing"
    with pytest.raises(InputError, match=message) as caught:
        replace_scheduler(DDIMScheduler(), name, {option: True})
    assert "self," not in str(caught.value)


def test_options_are_those_of_the_scheduler_that_is_named() -> None:
    options = {"original_inference_steps": 100}
    assert replace_scheduler(DDIMScheduler(), "LCMScheduler", options).config.original_inference_steps == 100
    with pytest.raises(InputError, match=r"DDIMScheduler has no 'original_inference_steps'"):
        replace_scheduler(LCMScheduler(), "DDIMScheduler", options)


def test_a_value_that_the_scheduler_rejects_is_one_message_that_names_the_option() -> None:
    with pytest.raises(InputError, match=r"^scheduler_options: DDIMScheduler rejects them: .*nonsense"):
        replace_scheduler(DDIMScheduler(), None, {"beta_schedule": "nonsense"})
