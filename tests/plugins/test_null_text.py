from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.edits import invert
from renoise_plugins.null_text import NullText
from renoise_plugins.prompt_swap import PromptSwap

from benchmarks.shared.scenes import images_of, unseen_scenes
from renoise.editing.base import EditRequest
from renoise.inversion.base import Inversion
from renoise.inversion.null_text import NullTextInversion
from renoise.inversion.null_text_optimization import NullTextOptimization
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model

SCENES = unseen_scenes(2)
PROMPTS = [scene.caption for scene in SCENES]
UNCHANGED = [EditRequest("a.png", prompt, prompt) for prompt in PROMPTS]
CHANGED = [EditRequest("a.png", prompt, "a frog on a plain red background") for prompt in PROMPTS]


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    source: Path = request.getfixturevalue(request.param)
    return load_model(str(source))


@pytest.fixture(scope="module")
def latents(model: DiffusionModel) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel, latents: torch.Tensor) -> Inversion:
    return invert(model, prompts=PROMPTS, latents=latents)


@pytest.fixture(scope="module")
def null_text_inversion(model: DiffusionModel, latents: torch.Tensor) -> Inversion:
    return invert(model, NullTextInversion(), prompts=PROMPTS, latents=latents, guidance_scale=2.0)


@pytest.fixture
def optimizations(monkeypatch: pytest.MonkeyPatch) -> list[NullTextOptimization]:
    """The optimizations that were run, in order."""
    run, recorded = NullTextOptimization.run, []

    def run_and_record(self: NullTextOptimization, *arguments: Any) -> Any:
        recorded.append(self)
        return run(self, *arguments)

    monkeypatch.setattr(NullTextOptimization, "run", run_and_record)
    return recorded


@torch.no_grad()
def test_it_uses_the_embeddings_of_an_inversion_with_the_same_guidance_scale(
    model: DiffusionModel, null_text_inversion: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    edited = NullText(guidance_scale=2.0).edit(model, null_text_inversion, UNCHANGED)
    assert not optimizations
    reconstructions = model.decode_latents(sample(model, null_text_inversion))
    torch.testing.assert_close(edited, reconstructions, rtol=0, atol=1e-4)
    NullText(guidance_scale=2.0).edit(model, null_text_inversion.select([1]), CHANGED[1:])
    assert not optimizations


@torch.no_grad()
def test_it_optimizes_embeddings_for_another_guidance_scale(
    model: DiffusionModel, null_text_inversion: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    NullText(guidance_scale=3.0, iterations=2, learning_rate=0.02).edit(model, null_text_inversion, UNCHANGED)
    assert [(each.iterations, each.learning_rate) for each in optimizations] == [(2, 0.02)]


@torch.no_grad()
def test_on_a_plain_inversion_it_edits_as_on_null_text_inversion(
    model: DiffusionModel,
    inversion: Inversion,
    null_text_inversion: Inversion,
    optimizations: list[NullTextOptimization],
) -> None:
    edited = NullText(guidance_scale=2.0).edit(model, inversion, CHANGED)
    assert len(optimizations) == 1
    expected = NullText(guidance_scale=2.0).edit(model, null_text_inversion, CHANGED)
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_under_the_images_own_prompt_it_is_nearer_to_the_image_than_prompt_swap(
    model: DiffusionModel, inversion: Inversion, latents: torch.Tensor
) -> None:
    images = model.decode_latents(latents)
    null_text = NullText(guidance_scale=3.0, iterations=15).edit(model, inversion, UNCHANGED)
    prompt_swap = PromptSwap(guidance_scale=3.0).edit(model, inversion, UNCHANGED)
    error_of_null_text = (null_text - images).square().flatten(1).mean(dim=1)
    error_of_prompt_swap = (prompt_swap - images).square().flatten(1).mean(dim=1)
    assert (error_of_null_text < 0.7 * error_of_prompt_swap).all()


@torch.no_grad()
def test_without_guidance_it_equals_prompt_swap_and_optimizes_nothing(
    model: DiffusionModel, inversion: Inversion, optimizations: list[NullTextOptimization]
) -> None:
    edited = NullText(guidance_scale=1).edit(model, inversion, CHANGED)
    assert torch.equal(edited, PromptSwap(guidance_scale=1).edit(model, inversion, CHANGED))
    assert not optimizations


def test_a_guidance_scale_of_0_needs_no_more_of_an_inversion_than_1_does() -> None:
    assert NullText(guidance_scale=0).needs == NullText(guidance_scale=1).needs == frozenset()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"iterations": 0}, "iterations must be 1 or more, got 0"),
        ({"learning_rate": 0}, r"learning_rate must be in \(0, 1\), got 0"),
        ({"learning_rate": 1}, r"learning_rate must be in \(0, 1\), got 1"),
        ({"learning_rate": float("nan")}, r"learning_rate must be in \(0, 1\), got nan"),
    ],
)
def test_an_option_out_of_range_is_an_error_with_the_editors_name(options: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^NullText: {problem}"):
        NullText(**options)
