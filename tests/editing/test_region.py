from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import REQUESTS, invert, random_latents

from renoise.editing.base import EditRequest
from renoise.editing.discovery import load_editors
from renoise.editing.region import region_of, restrict
from renoise.editing.runner import run_editor
from renoise.inversion.base import Inversion
from renoise.inversion.ddim import DDIM
from renoise.inversion.direct import DirectInversion
from renoise.inversion.edict import EDICT
from renoise.models.base import DiffusionModel

LEFT, CORNER = torch.zeros(2, 32, 32, dtype=torch.bool)
LEFT[:, :16] = True
CORNER[:5, :5] = True
MASKED = [replace(REQUESTS[0], mask=LEFT), replace(REQUESTS[1], mask=CORNER)]


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return invert(model, DirectInversion(DDIM()))


@pytest.fixture
def decoded(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents that are decoded."""
    seen: list[torch.Tensor] = []
    decode: Callable[[torch.Tensor], torch.Tensor] = model.decode_latents
    monkeypatch.setattr(model, "decode_latents", lambda latents: (seen.append(latents), decode(latents))[1])
    return seen


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PromptSwap", {}),
        ("PromptSwap", {"strength": 0.5}),
        ("NegativePrompt", {"proximal_quantile": 0.5}),
        ("NullText", {"iterations": 1}),
        ("Pix2PixZero", {}),
        ("PromptToPrompt", {}),
    ],
)
def test_outside_of_the_masks_the_latents_of_an_edit_are_those_of_the_image_bit_for_bit(
    model: DiffusionModel, inversion: Inversion, decoded: list[torch.Tensor], name: str, options: dict[str, Any]
) -> None:
    outcomes = run_editor(load_editors()[name](**options), model, inversion, MASKED)
    assert all(isinstance(outcome, torch.Tensor) for outcome in outcomes), outcomes
    changed = (decoded[-1] != random_latents()).any(dim=1)
    assert changed[0, :, :4].all()
    assert not changed[0, :, 4:].any()
    assert changed[1, :2, :2].all()  # pixels 4 and on belong to the second latent
    assert changed[1].sum() == 4


def test_a_mask_of_everything_equals_no_mask(
    model: DiffusionModel, inversion: Inversion, decoded: list[torch.Tensor]
) -> None:
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    for requests in (REQUESTS, [replace(request, mask=everywhere) for request in REQUESTS]):
        run_editor(load_editors()["PromptSwap"](), model, inversion, requests)
    assert decoded[0].equal(decoded[1])


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (3, 4)])
def test_a_latent_may_change_where_any_of_its_pixels_may(height: int, width: int) -> None:
    mask = torch.rand(13, 17, generator=torch.Generator().manual_seed(0)) > 0.9
    region = region_of(mask, (height, width))
    for row in range(height):
        for column in range(width):  # pixels that overlap [row, row + 1) · 13 / height
            top, bottom = row * 13 // height, -(-(row + 1) * 13 // height)
            left, right = column * 17 // width, -(-(column + 1) * 17 // width)
            assert region[0, row, column] == mask[top:bottom, left:right].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": None}, "needs an inversion that kept its trajectory: invert with keep_trajectory=True"),
        ({"sampler": EDICT()}, "takes the steps of the schedule, and EDICT has a sampler of its own; invert with"),
        ({"num_inversion_steps": 9}, "needs an inversion in the sampler's own steps, so num_inversion_steps must be"),
    ],
)
def test_an_inversion_that_cannot_keep_to_a_mask_is_refused(
    inversion: Inversion, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^an edit that keeps what is outside of a mask {message}"):
        restrict(replace(inversion, **change), MASKED)
    assert restrict(replace(inversion, **change), REQUESTS).region is None


@pytest.mark.parametrize("mask", [torch.ones(32, 32), torch.ones(1, 32, 32) > 0, torch.ones(7, 32) > 0])
def test_a_mask_that_is_no_mask_of_the_image_is_an_error(inversion: Inversion, mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^a\.png: mask must be bool \[height, width\] of the image, got torch"):
        restrict(inversion.select([0]), [EditRequest("a.png", "a cat", "a dog", mask)])
