from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from renoise.core.schedule import Schedule
from renoise.errors import InputError
from renoise.models.schedulers import replace_scheduler

STABLE_DIFFUSION: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def given(scheduler: SchedulerMixin) -> dict[str, Any]:
    """Returns the settings of a scheduler without diffusers' own notes."""
    return {name: value for name, value in scheduler.config.items() if not name.startswith("_")}


def test_without_a_name_the_checkpoints_own_scheduler_is_kept() -> None:
    scheduler = DDIMScheduler(clip_sample=False)
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
    assert given(replaced) == given(scheduler) | options
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
    scheduler = DDIMScheduler(clip_sample=False)
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


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "LCMScheduler"])
@pytest.mark.parametrize(
    "kind", [PNDMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler, EulerDiscreteScheduler]
)
def test_a_configuration_without_clip_sample_does_not_clip(kind: type[SchedulerMixin], name: str) -> None:
    replaced = replace_scheduler(kind(**STABLE_DIFFUSION), name)
    assert replaced.config.clip_sample is False
    Schedule.from_scheduler(replaced, 10)


def test_nor_does_the_checkpoints_own_scheduler() -> None:
    scheduler = DDIMScheduler(**STABLE_DIFFUSION)
    assert replace_scheduler(scheduler, None).config.clip_sample is False
    assert scheduler.config.clip_sample is True, "the checkpoint's own is not changed"


@pytest.mark.parametrize("name", [None, "DDIMScheduler", "DDPMScheduler"])
def test_clipping_that_is_asked_for_is_kept(name: str | None) -> None:
    assert replace_scheduler(DDIMScheduler(clip_sample=True), name).config.clip_sample is True
    assert replace_scheduler(DDIMScheduler(), name, {"clip_sample": True}).config.clip_sample is True


@pytest.mark.parametrize("kind", [LCMScheduler, TCDScheduler])
def test_the_noise_schedule_is_the_checkpoints_also_where_it_is_a_default_of_its_class(
    kind: type[SchedulerMixin],
) -> None:
    scheduler = kind()  # its betas are those of Stable Diffusion, and DDIM's defaults are others
    replaced = replace_scheduler(scheduler, "DDIMScheduler")
    torch.testing.assert_close(replaced.alphas_cumprod, scheduler.alphas_cumprod, rtol=0, atol=0)


@pytest.mark.parametrize("name", [None, "DDIMScheduler"])
def test_what_a_pipeline_corrected_stays_corrected(name: str | None, tiny_sd: Path) -> None:
    parts = StableDiffusionPipeline.from_pretrained(tiny_sd).components
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers' note about the correction
        pipeline = StableDiffusionPipeline(
            **parts | {"scheduler": DDIMScheduler(**STABLE_DIFFUSION)}, requires_safety_checker=False
        )
    assert pipeline.scheduler.config.steps_offset == 1
    replaced = replace_scheduler(pipeline.scheduler, name, {"timestep_spacing": "leading"})
    assert (replaced.config.steps_offset, replaced.config.clip_sample) == (1, False)
