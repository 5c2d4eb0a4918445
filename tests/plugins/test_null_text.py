from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from renoise_plugins.null_text import NullText
from renoise_plugins.prompt_swap import PromptSwap

from renoise.checkpoint import load_denoiser
from renoise.denoiser import Denoiser
from renoise.editing import EditRequest
from renoise.errors import InputError
from renoise.evaluation import UNSEEN_SEED, images_of
from renoise.inversion import Inversion, Inverter, sample
from renoise.null_text_inversion import NullTextInverter, NullTextOptimisation
from renoise.schedule import Schedule
from renoise.solver import Renoising
from renoise.zoo.scenes import random_scenes

SCENES = random_scenes(2, UNSEEN_SEED)
PROMPTS = [scene.caption for scene in SCENES]
SAME = [EditRequest(str(row), prompt, prompt) for row, prompt in enumerate(PROMPTS)]
OTHER = [EditRequest(str(row), prompt, "a frog on a plain red background") for row, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def denoiser(request: pytest.FixtureRequest) -> Denoiser:
    source: Path = request.getfixturevalue(request.param)
    return load_denoiser(str(source))


@pytest.fixture(scope="module")
def latents(denoiser: Denoiser) -> torch.Tensor:
    with torch.no_grad():
        return denoiser.encode_images(F.interpolate(images_of(SCENES), size=(32, 32), mode="area"))


@pytest.fixture(scope="module")
def inverter(denoiser: Denoiser) -> Inverter:
    return Inverter(denoiser, Schedule.read(denoiser.scheduler, 4), Renoising(0), keep_trajectory=True)


@pytest.fixture(scope="module")
def inversion(denoiser: Denoiser, inverter: Inverter, latents: torch.Tensor) -> Inversion:
    return inverter.invert(latents, denoiser.encode_prompts(PROMPTS), PROMPTS)


@pytest.fixture(scope="module")
def null_text(denoiser: Denoiser, inverter: Inverter, latents: torch.Tensor) -> Inversion:
    return NullTextInverter(inverter).invert(latents, denoiser.encode_prompts(PROMPTS, 2.0), PROMPTS)


@pytest.fixture
def optimisations(monkeypatch: pytest.MonkeyPatch) -> list[NullTextOptimisation]:
    """Those that were run, in their order."""
    run, made = NullTextOptimisation.run, []

    def noted(self: NullTextOptimisation, *arguments: Any) -> Any:
        made.append(self)
        return run(self, *arguments)

    monkeypatch.setattr(NullTextOptimisation, "run", noted)
    return made


@torch.no_grad()
def test_embeddings_of_the_same_guidance_are_taken_from_the_inversion(
    denoiser: Denoiser, null_text: Inversion, optimisations: list[NullTextOptimisation]
) -> None:
    edited = NullText(guidance_scale=2.0).edit(denoiser, null_text, SAME)
    assert not optimisations
    torch.testing.assert_close(edited, denoiser.decode_latents(sample(denoiser, null_text)), rtol=0, atol=1e-4)
    NullText(guidance_scale=2.0).edit(denoiser, null_text.rows([1]), OTHER[1:])
    assert not optimisations


@torch.no_grad()
def test_embeddings_of_another_guidance_are_optimised_anew(
    denoiser: Denoiser, null_text: Inversion, optimisations: list[NullTextOptimisation]
) -> None:
    NullText(guidance_scale=3.0, iterations=2, learning_rate=0.02).edit(denoiser, null_text, SAME)
    assert [(one.iterations, one.learning_rate) for one in optimisations] == [(2, 0.02)]


@torch.no_grad()
def test_over_a_plain_inversion_it_edits_as_over_null_text_inversion(
    denoiser: Denoiser, inversion: Inversion, null_text: Inversion, optimisations: list[NullTextOptimisation]
) -> None:
    edited = NullText(guidance_scale=2.0).edit(denoiser, inversion, OTHER)
    assert len(optimisations) == 1
    expected = NullText(guidance_scale=2.0).edit(denoiser, null_text, OTHER)
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_under_the_images_own_prompt_it_comes_nearer_than_prompt_swap(
    denoiser: Denoiser, inversion: Inversion, latents: torch.Tensor
) -> None:
    images = denoiser.decode_latents(latents)
    null, swap = (
        (editor.edit(denoiser, inversion, SAME) - images).square().flatten(1).mean(dim=1)
        for editor in (NullText(guidance_scale=3.0, iterations=30), PromptSwap(guidance_scale=3.0))
    )
    assert (null < 0.7 * swap).all()


@torch.no_grad()
def test_without_guidance_it_is_prompt_swap_and_optimises_nothing(
    denoiser: Denoiser, inversion: Inversion, optimisations: list[NullTextOptimisation]
) -> None:
    edited = NullText(guidance_scale=1).edit(denoiser, inversion, OTHER)
    assert torch.equal(edited, PromptSwap(guidance_scale=1).edit(denoiser, inversion, OTHER))
    assert not optimisations


@torch.no_grad()
def test_another_prompt_gives_another_picture(denoiser: Denoiser, null_text: Inversion) -> None:
    same, other = (NullText(guidance_scale=2.0).edit(denoiser, null_text, each) for each in (SAME, OTHER))
    assert other.shape == (2, 3, 32, 32)
    assert ((same - other).abs().amax(dim=(1, 2, 3)) > 1e-2).all()


@torch.no_grad()
def test_the_weaker_the_nearer_to_the_image(denoiser: Denoiser, null_text: Inversion, latents: torch.Tensor) -> None:
    image = denoiser.decode_latents(latents)
    errors = [
        float((editor.edit(denoiser, null_text, OTHER) - image).square().mean())
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
def test_it_needs_the_trajectory_at_any_strength(denoiser: Denoiser, inverter: Inverter, latents: torch.Tensor) -> None:
    assert NullText().needs == NullText(strength=0.5).needs == {"trajectory"}
    assert NullText(guidance_scale=1).needs == set(), "nothing is optimised then"
    inversion = inverter.invert(latents[:1], denoiser.encode_prompts(PROMPTS[:1]), PROMPTS[:1])
    inversion.trajectory = None
    with pytest.raises(ValueError, match="kept its trajectory"):
        NullText().edit(denoiser, inversion, OTHER[:1])
