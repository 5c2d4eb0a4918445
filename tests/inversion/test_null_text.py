from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from helpers.inversions import BoundInverter

from benchmarks.shared.scenes import UNSEEN_SEED, images_of
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion
from renoise.inversion.ddim import DDIM
from renoise.inversion.discovery import load_inverters
from renoise.inversion.flow import FlowInversion
from renoise.inversion.null_text import NullTextInversion
from renoise.inversion.null_text_optimization import NullTextOptimization
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.conditioning import Conditioning
from renoise.models.loading import load_model
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
PROMPTS = [scene.caption for scene in SCENES]
NAMES = ["a.png", "b.png"]
GUIDANCE = 3.0
NEVER, AT_ONCE = 0.0, 1e9  # tolerances: all iterations are made, or none


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def either(request: pytest.FixtureRequest) -> DiffusionModel:
    source: Path = request.getfixturevalue(request.param)
    return load_model(str(source))


@pytest.fixture(scope="module")
def latents(model: DiffusionModel) -> torch.Tensor:
    """Of small pictures; both models have the same autoencoder."""
    with torch.no_grad():
        return model.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


def plain(model: DiffusionModel, steps: int) -> BoundInverter:
    return BoundInverter(DDIM(), model, Schedule.from_scheduler(model.scheduler, steps), keep_trajectory=True)


def null_text(model: DiffusionModel, steps: int, **optimization: Any) -> BoundInverter:
    method = NullTextInversion(NullTextOptimization(**optimization))
    return BoundInverter(method, model, Schedule.from_scheduler(model.scheduler, steps), keep_trajectory=True)


def optimized(model: DiffusionModel, latents: torch.Tensor, steps: int, **optimization: Any) -> Inversion:
    count = len(latents)
    return null_text(model, steps, **optimization).invert(
        latents, model.encode_prompts(PROMPTS[:count], GUIDANCE), NAMES[:count]
    )


def empty_prompt(model: DiffusionModel) -> torch.Tensor:
    conditioning = model.encode_prompts(PROMPTS[:1], GUIDANCE)
    assert conditioning.negative_prompt_embeds is not None
    return conditioning.negative_prompt_embeds[0]


# What it is for


@torch.no_grad()
def test_with_guidance_it_reconstructs_much_better_than_ddim_inversion(either: DiffusionModel) -> None:
    latents = either.encode_images(images_of(SCENES[:1]))
    conditioning = either.encode_prompts(PROMPTS[:1], GUIDANCE)
    ddim = plain(either, 7).invert(latents, conditioning.conditional, ["0"])
    optimum = null_text(either, 7).invert(latents, conditioning, ["0"])
    torch.testing.assert_close(optimum.latents, ddim.latents)
    away, back = sample(either, ddim, conditioning), sample(either, optimum)
    assert (back - latents).square().mean() < (away - latents).square().mean() / 3


@torch.no_grad()
def test_more_iterations_reconstruct_better(model: DiffusionModel, latents: torch.Tensor) -> None:
    errors = [
        float((sample(model, optimized(model, latents, 2, iterations=count)) - latents).square().mean())
        for count in (1, 4, 12)
    ]
    assert errors == sorted(errors, reverse=True)


@torch.no_grad()
def test_it_also_improves_on_ddim_with_a_stochastic_sampler(model: DiffusionModel, latents: torch.Tensor) -> None:
    schedule = Schedule.from_scheduler(DDIMScheduler.from_config(model.scheduler.config), 3, eta=1.0)
    ddim, method = (BoundInverter(each, model, schedule) for each in (DDIM(), NullTextInversion()))
    conditioning = model.encode_prompts(PROMPTS, GUIDANCE)
    away = sample(model, ddim.invert(latents, conditioning.conditional, NAMES), conditioning)
    back = sample(model, method.invert(latents, conditioning, NAMES))
    errors = [float((each - latents).square().mean()) for each in (back, away)]
    assert errors[0] < 0.8 * errors[1]


# The optimization


@torch.no_grad()
def test_the_result_for_an_image_does_not_depend_on_the_batch(model: DiffusionModel, latents: torch.Tensor) -> None:
    settings = {"iterations": 6, "tolerance": 3e-3}
    together = optimized(model, latents, 2, **settings)
    alone = optimized(model, latents[:1], 2, **settings)
    assert together.null_embeddings is not None
    assert alone.null_embeddings is not None
    together_error, alone_error = ((sample(model, each)[0] - latents[0]).square().mean() for each in (together, alone))
    torch.testing.assert_close(together_error, alone_error, rtol=1e-3, atol=1e-6)
    assert float((together.null_embeddings[:, 0] - alone.null_embeddings[:, 0]).abs().mean()) < 1e-4
    assert together.nfe[0] == alone.nfe[0]


def test_an_image_within_the_tolerance_keeps_the_embeddings_of_the_empty_prompt(
    either: DiffusionModel, latents: torch.Tensor
) -> None:
    inversion = optimized(either, latents, 2, tolerance=AT_ONCE)
    assert inversion.null_embeddings is not None
    assert torch.equal(inversion.null_embeddings, empty_prompt(either).expand(2, 2, -1, -1))
    conditioning = either.encode_prompts(PROMPTS, GUIDANCE)
    expected = sample(either, plain(either, 2).invert(latents, conditioning.conditional, NAMES), conditioning)
    torch.testing.assert_close(sample(either, inversion), expected)


def test_every_step_starts_from_the_embeddings_before_it_with_a_lower_learning_rate(
    model: DiffusionModel, latents: torch.Tensor
) -> None:
    steps, rate = 4, 0.02
    inversion = optimized(model, latents, steps, iterations=1, learning_rate=rate, tolerance=NEVER)
    assert inversion.null_embeddings is not None
    before = empty_prompt(model).expand(2, -1, -1)
    for index, embeddings in enumerate(inversion.null_embeddings):
        moved = (embeddings - before).abs()  # Adam's first step is its rate, whatever the gradient
        slower = rate * (1 - index / (2 * steps))
        assert float(moved.max()) == pytest.approx(slower, rel=1e-3)
        assert float(moved.median()) == pytest.approx(slower, rel=3e-2)  # except for Adam's epsilon
        before = embeddings


def one_step_errors(model: DiffusionModel, latents: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """‖z*_{t-1} − …‖² / n of a schedule of one step, with nothing of the module's own."""
    conditioning = model.encode_prompts(PROMPTS, GUIDANCE)
    ddim = plain(model, 1).invert(latents, conditioning.conditional, NAMES)
    step = ddim.schedule.steps[0]
    away, toward = (
        model.network(step.input_scale * ddim.latents, step.timestep, encoder_hidden_states=embeds).sample
        for embeds in (embeddings, conditioning.prompt_embeds)
    )
    ended = step.phi * ddim.latents + step.psi * (away + GUIDANCE * (toward - away))
    return (ended - latents).square().flatten(1).mean(dim=1)


@torch.no_grad()
def test_an_image_stops_once_it_is_within_the_tolerance(model: DiffusionModel, latents: torch.Tensor) -> None:
    by_count = []
    for count in range(6):
        found = optimized(model, latents, 1, iterations=max(count, 1), tolerance=NEVER if count else AT_ONCE)
        assert found.null_embeddings is not None
        by_count.append(found.null_embeddings[0])
    errors = torch.stack([one_step_errors(model, latents, embeddings) for embeddings in by_count])
    assert (errors.diff(dim=0) < 0).all()  # else the images below do not stop where they should
    first = int(errors[3].argmin())
    other = 1 - first
    tolerance = float(errors[2:4, first].mean())  # reached at the third iteration
    assert float(errors[5, other]) > tolerance
    stopped = optimized(model, latents, 1, iterations=5, tolerance=tolerance)
    assert stopped.null_embeddings is not None
    torch.testing.assert_close(stopped.null_embeddings[0, first], by_count[3][first], rtol=0, atol=1e-5)
    torch.testing.assert_close(stopped.null_embeddings[0, other], by_count[5][other], rtol=0, atol=2e-4)
    # its path; ε_c; three iterations, the error that stopped it and the step itself, or five and the step
    assert stopped.nfe[first] == 1 + 1 + 3 + 1 + 1
    assert stopped.nfe[other] == 1 + 1 + 5 + 1


def test_nfe_counts_what_the_network_really_evaluates(either: DiffusionModel, latents: torch.Tensor) -> None:
    for settings in ({"iterations": 3}, {"iterations": 3, "tolerance": AT_ONCE}, {"iterations": 6, "tolerance": 0.02}):
        taken: list[int] = []
        hook = either.network.register_forward_pre_hook(lambda _, inputs, taken=taken: taken.append(len(inputs[0])))
        inversion = optimized(either, latents, 2, **settings)
        hook.remove()
        assert int(inversion.nfe.sum()) == sum(taken)


def test_the_networks_weights_need_and_get_no_gradient(either: DiffusionModel, latents: torch.Tensor) -> None:
    before = {name: weight.clone() for name, weight in either.named_parameters()}
    inversion = optimized(either, latents, 1, iterations=2)
    for name, weight in either.named_parameters():
        assert not weight.requires_grad
        assert weight.grad is None
        assert torch.equal(weight, before[name])
    assert inversion.null_embeddings is not None
    assert not inversion.null_embeddings.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_in_half_precision_reconstruct_as_well(
    tiny_sd: Path, model: DiffusionModel, latents: torch.Tensor, dtype: torch.dtype
) -> None:
    errors = []
    for network, iterations in ((model, 1), (model, 8), (load_model(str(tiny_sd)).to(dtype), 8)):
        inversion = optimized(network, latents[:1], 2, iterations=iterations, tolerance=NEVER)
        assert inversion.null_embeddings is not None
        assert inversion.null_embeddings.dtype == network.dtype
        errors.append(float((sample(network, inversion) - latents[:1]).square().mean()))
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] == pytest.approx(errors[1], rel=0.05)


@torch.no_grad()
def test_gradients_do_not_shrink_with_larger_images_because_float16_would_lose_them(
    model: DiffusionModel, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    forward = model.network.forward

    def watched(*inputs: Any, **named: Any) -> tuple[torch.Tensor]:
        (output,) = forward(*inputs, **named)
        if output.requires_grad:
            output.register_hook(lambda gradient: sizes.append(float(gradient.abs().mean())))
        return (output,)

    monkeypatch.setattr(model.network, "forward", watched)
    for times in (1, 3):
        optimized(model, latents[:1].repeat(1, 1, times, times), 1, iterations=1, tolerance=NEVER)
    small, large = sizes
    assert large > small / 2, "a mean's are a ninth"


# What is left behind


def test_the_inversion_has_conditioning_with_guidance_and_embeddings_for_every_step(
    either: DiffusionModel, latents: torch.Tensor
) -> None:
    conditioning = either.encode_prompts(PROMPTS, GUIDANCE)
    inversion = optimized(either, latents, 2, iterations=1)
    length, width = conditioning.prompt_embeds.shape[1:]
    assert inversion.null_embeddings is not None
    assert inversion.null_embeddings.shape == (2, 2, length, width)
    assert inversion.conditioning.guidance_scale == GUIDANCE
    for index in range(2):
        current = inversion.conditioning_at(index)
        assert current.negative_prompt_embeds is not None
        assert torch.equal(current.negative_prompt_embeds, inversion.null_embeddings[index])
        expected = replace(conditioning, negative_prompt_embeds=None)
        assert same(replace(current, negative_prompt_embeds=None), expected)
    assert torch.equal(
        inversion.select([1]).conditioning_at(1).select(torch.tensor([0])).unconditional.prompt_embeds[0],
        inversion.null_embeddings[1, 1],
    )


def same(one: Conditioning, other: Conditioning) -> bool:
    for name, value in vars(one).items():
        wanted = getattr(other, name)
        if isinstance(value, torch.Tensor):
            if not torch.allclose(value, wanted):
                return False
        elif value != wanted:
            return False
    return True


def test_the_trajectory_is_kept_only_on_request(model: DiffusionModel, latents: torch.Tensor) -> None:
    kept = null_text(model, 1, iterations=1)
    bare = replace(kept, keep_trajectory=False)
    conditioning = model.encode_prompts(PROMPTS, GUIDANCE)
    with_it, without = (each.invert(latents, conditioning, NAMES) for each in (kept, bare))
    assert with_it.trajectory is not None
    assert torch.equal(with_it.trajectory[-1], latents)
    assert without.trajectory is None
    assert torch.equal(with_it.latents, without.latents)


@torch.no_grad()
def test_an_image_that_fails_does_not_change_the_others(model: DiffusionModel, latents: torch.Tensor) -> None:
    ill = latents.clone()
    ill[1, 0, 0, 0] = torch.nan
    well, beside = (optimized(model, each, 2, iterations=3) for each in (latents, ill))
    assert list(beside.failures) == [1]
    torch.testing.assert_close(sample(model, beside)[0], sample(model, well)[0], rtol=0, atol=1e-3)


# What it cannot do


def test_it_is_the_only_method_that_needs_guidance(model: DiffusionModel) -> None:
    stochastic, deterministic = (Schedule.from_scheduler(model.scheduler, 2, eta) for eta in (1.0, 0.0))
    with pytest.raises(ValueError, match=r"^NullTextInversion needs a guidance_scale above 1"):
        NullTextInversion().check(model, stochastic, guidance_scale=1.0)
    NullTextInversion().check(model, stochastic, guidance_scale=2.0)
    for name, kind in load_inverters().items():
        method = kind()
        if name != "NullTextInversion" and not isinstance(method, FlowInversion):
            schedule = stochastic if method.sampler is None else deterministic
            method.check(model, schedule, guidance_scale=1.0)


@pytest.mark.parametrize(
    ("argument", "value"), [("iterations", 0), ("learning_rate", 1.0), ("tolerance", -1.0), ("tolerance_growth", -1.0)]
)
def test_an_argument_out_of_range_is_named(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be .*, got {value}"):
        NullTextOptimization(**{argument: value})  # type: ignore[arg-type]


def test_an_inversion_without_its_trajectory_cannot_be_optimized(model: DiffusionModel, latents: torch.Tensor) -> None:
    conditioning = model.encode_prompts(PROMPTS, GUIDANCE)
    bare = replace(plain(model, 1), keep_trajectory=False).invert(latents, conditioning.conditional, NAMES)
    with pytest.raises(ValueError, match="kept its trajectory"):
        NullTextOptimization().run(model, bare, conditioning)
