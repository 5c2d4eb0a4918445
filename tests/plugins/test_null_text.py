from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmarks.evaluation import UNSEEN_SEED, images_of
from renoise_plugins.null_text import NullText
from renoise_plugins.prompt_swap import PromptSwap

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.inversion.null_text import NullTextInverter, NullTextOptimization
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from tiny_models.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
PROMPTS = [scene.caption for scene in SCENES]
SAME = [EditRequest(str(row), prompt, prompt) for row, prompt in enumerate(PROMPTS)]
OTHER = [EditRequest(str(row), prompt, "a frog on a plain red background") for row, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    source: Path = request.getfixturevalue(request.param)
    return load_model(str(source))


@pytest.fixture(scope="module")
def latents(model: DiffusionModel) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


@pytest.fixture(scope="module")
def inverter(model: DiffusionModel) -> Inverter:
    return Inverter(model, Schedule.from_scheduler(model.scheduler, 4), Renoising(0), keep_trajectory=True)


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel, inverter: Inverter, latents: torch.Tensor) -> Inversion:
    return inverter.invert(latents, model.encode_prompts(PROMPTS), PROMPTS)


@pytest.fixture(scope="module")
def null_text(model: DiffusionModel, inverter: Inverter, latents: torch.Tensor) -> Inversion:
    return NullTextInverter(inverter).invert(latents, model.encode_prompts(PROMPTS, 2.0), PROMPTS)


@pytest.fixture
def optimizations(monkeypatch: pytest.MonkeyPatch) -> list[NullTextOptimization]:
    """Those that were run, in their order."""
    run, made = NullTextOptimization.run, []

    def noted(self: NullTextOptimization, *arguments: Any) -> Any:
        made.append(self)
        return run(self, *arguments)

    monkeypatch.setattr(NullTextOptimization, "run", noted)
    return made


@torch.no_grad()
def test_embeddings_of_the_same_guidance_are_taken_from_the_inversion(
    model: DiffusionModel, null_text: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    edited = NullText(guidance_scale=2.0).edit(model, null_text, SAME)
    assert not optimizations
    torch.testing.assert_close(edited, model.decode_latents(sample(model, null_text)), rtol=0, atol=1e-4)
    NullText(guidance_scale=2.0).edit(model, null_text.select([1]), OTHER[1:])
    assert not optimizations


@torch.no_grad()
def test_embeddings_of_another_guidance_are_optimized_anew(
    model: DiffusionModel, null_text: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    NullText(guidance_scale=3.0, iterations=2, learning_rate=0.02).edit(model, null_text, SAME)
    assert [(one.iterations, one.learning_rate) for one in optimizations] == [(2, 0.02)]


@torch.no_grad()
def test_over_a_plain_inversion_it_edits_as_over_null_text_inversion(
    model: DiffusionModel, inversion: Inversion, null_text: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    edited = NullText(guidance_scale=2.0).edit(model, inversion, OTHER)
    assert len(optimizations) == 1
    expected = NullText(guidance_scale=2.0).edit(model, null_text, OTHER)
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_under_the_images_own_prompt_it_comes_nearer_than_prompt_swap(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    images = model.decode_latents(latents)
    null, swap = (
        (editor.edit(model, inversion, SAME) - images).square().flatten(1).mean(dim=1)
        for editor in (NullText(guidance_scale=3.0, iterations=30), PromptSwap(guidance_scale=3.0))
    )
    assert (null < 0.7 * swap).all()


@torch.no_grad()
def test_without_guidance_it_is_prompt_swap_and_optimizes_nothing(
    model: DiffusionModel, inversion: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    edited = NullText(guidance_scale=1).edit(model, inversion, OTHER)
    assert torch.equal(edited, PromptSwap(guidance_scale=1).edit(model, inversion, OTHER))
    assert not optimizations


@torch.no_grad()
def test_another_prompt_gives_another_picture(model: DiffusionModel, null_text: Inversion) -> None:
    same, other = (NullText(guidance_scale=2.0).edit(model, null_text, each) for each in (SAME, OTHER))
    assert other.shape == (2, 3, 32, 32)
    assert ((same - other).abs().amax(dim=(1, 2, 3)) > 1e-2).all()


@torch.no_grad()
def test_the_weaker_the_nearer_to_the_image(model: DiffusionModel, null_text: Inversion, latents: torch.Tensor) -> None:
    image = model.decode_latents(latents)
    errors = [
        float((editor.edit(model, null_text, OTHER) - image).square().mean())
        for editor in (NullText(guidance_scale=2.0, strength=strength) for strength in (0.25, 0.5, 1.0))
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"guidance_scale": -1}, "NullText: guidance_scale must be 0 or more, got -1"),
        ({"iterations": 0}, "NullText: iterations must be 1 or more, got 0"),
        ({"learning_rate": 0}, r"NullText: learning_rate must lie in \(0, 1\), got 0"),
        ({"learning_rate": 1}, r"NullText: learning_rate must lie in \(0, 1\), got 1"),
        ({"learning_rate": float("nan")}, r"NullText: learning_rate must lie in \(0, 1\), got nan"),
        ({"strength": 0}, r"NullText: strength must lie in \(0, 1\], got 0"),
    ],
)
def test_options_that_cannot_be_are_named_with_the_editor(options: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=f"^{problem}"):
        NullText(**options)


def test_an_image_without_a_prompt_to_go_to_is_refused_by_the_editors_own_name() -> None:
    refusal = NullText().refusal(EditRequest("a.png", "a cat", None))
    assert refusal == "the image has no edit_text and NullText no words to replace"


@torch.no_grad()
def test_it_needs_the_trajectory_at_any_strength(
    model: DiffusionModel, inverter: Inverter, latents: torch.Tensor
) -> None:
    assert NullText().needs == NullText(strength=0.5).needs == {"trajectory"}
    assert NullText(guidance_scale=1).needs == set(), "nothing is optimized then"
    inversion = inverter.invert(latents[:1], model.encode_prompts(PROMPTS[:1]), PROMPTS[:1])
    inversion.trajectory = None
    with pytest.raises(ValueError, match="kept its trajectory"):
        NullText().edit(model, inversion, OTHER[:1])
