from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from helpers.edits import REQUESTS, invert

from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, EditRequest
from renoise.editing.prompt_editor import PromptEditor
from renoise.editing.runner import check_inversion, check_needs, run_editor
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel


class Negative(Editor):
    """Returns the negative of the reconstruction. Refuses images without a prompt."""

    def refusal(self, request: EditRequest) -> str | None:
        return None if request.prompt else "there is no prompt"

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        assert len(requests) == len(inversion.latents)
        return 1 - model.decode_latents(sample(model, inversion))


class FirstIsNaN(Negative):
    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        images = super().edit(model, inversion, requests)
        images[0, 0, 0, 0] = torch.nan
        return images


class FailsForB(Negative):
    """Raises for every batch that contains `b.png`."""

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        if any(request.file_name == "b.png" for request in requests):
            raise IndexError("no\nsuch thing")
        return super().edit(model, inversion, requests)


class WrongShape(Negative):
    """Leaves out `b.png`, and the colors of a single image."""

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        images = super().edit(model, inversion, requests)
        kept = images[[request.file_name != "b.png" for request in requests]]
        return kept if len(requests) > 1 else kept[:, 0]


class RefusalFailsForB(Negative):
    def refusal(self, request: EditRequest) -> str | None:
        if request.file_name == "b.png":
            raise KeyError("b")
        return super().refusal(request)


class NeedsDeterministicSampler(Negative):
    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        if schedule.is_stochastic:
            raise ValueError(f"{type(self).__name__} cannot edit under a sampler that draws noise")


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return invert(model, steps=2)


# Running


def test_each_image_is_edited_or_has_the_reason_of_its_refusal(model: DiffusionModel, inversion: Inversion) -> None:
    refused = replace(REQUESTS[0], prompt="")
    reason, image = run_editor(Negative(), model, inversion, [refused, REQUESTS[1]])
    assert reason == "there is no prompt"
    expected = 1 - model.decode_latents(sample(model, inversion.select([1])))[0]
    torch.testing.assert_close(image, expected)
    assert run_editor(Negative(), model, inversion, [refused, refused]) == ["there is no prompt"] * 2


def test_an_image_that_turns_nan_is_not_returned(model: DiffusionModel, inversion: Inversion) -> None:
    first, second = run_editor(FirstIsNaN(), model, inversion, REQUESTS)
    assert first == "the edited image contains NaN or infinity"
    assert isinstance(second, torch.Tensor)


@pytest.mark.parametrize("editor", [FailsForB(), RefusalFailsForB()])
def test_an_editor_that_raises_for_one_image_edits_the_others(
    editor: Editor, model: DiffusionModel, inversion: Inversion
) -> None:
    first, second = run_editor(editor, model, inversion, REQUESTS)
    assert isinstance(first, torch.Tensor)
    error = {"FailsForB": "IndexError: no such thing", "RefusalFailsForB": "KeyError: 'b'"}[type(editor).__name__]
    assert isinstance(second, str)
    assert re.fullmatch(rf"{re.escape(error)} \(test_runner\.py:\d+\)", second), "its author sees where"


def test_edits_of_the_wrong_shape_are_reported_for_each_image(model: DiffusionModel, inversion: Inversion) -> None:
    assert run_editor(WrongShape(), model, inversion, REQUESTS) == [
        "ValueError: the edits must be [1, 3, height, width], got [1, 32, 32]",
        "ValueError: the edits must be [1, 3, height, width], got [0, 32, 32]",
    ]


# What an editor needs


@pytest.mark.parametrize("needs", [frozenset({"trajectroy"}), "trajectory"])
def test_unknown_needs_are_an_error(needs: object, model: DiffusionModel, inversion: Inversion) -> None:
    editor = Negative()
    editor.needs = needs  # type: ignore[assignment]
    message = "^Negative: needs must be a set of 'trajectory', 'noise', 'attention', 'steps', 'image', got"
    with pytest.raises(ValueError, match=message):
        check_needs(editor, model, inversion.schedule)


def test_an_editor_that_needs_noise_is_rejected_under_a_deterministic_sampler(model: DiffusionModel) -> None:
    editor = Negative()
    editor.needs = frozenset({"noise"})
    with pytest.raises(ValueError, match=r"^Negative needs a sampler that draws noise"):
        check_needs(editor, model, Schedule.from_scheduler(model.scheduler, 2))
    check_needs(editor, model, Schedule.from_scheduler(model.scheduler, 2, eta=1.0))


def test_an_editors_own_check_is_called(model: DiffusionModel) -> None:
    check_needs(NeedsDeterministicSampler(), model, Schedule.from_scheduler(model.scheduler, 2))
    with pytest.raises(ValueError, match=r"^NeedsDeterministicSampler cannot edit under a sampler that draws noise$"):
        check_needs(NeedsDeterministicSampler(), model, Schedule.from_scheduler(model.scheduler, 2, eta=1.0))


def test_an_inversion_without_what_an_editor_needs_is_an_error(model: DiffusionModel, inversion: Inversion) -> None:
    bare = replace(inversion, trajectory=None)
    weak = PromptEditor(strength=0.7)
    problem = (
        "PromptEditor with strength 0.7 needs an inversion that kept its trajectory: invert with keep_trajectory=True"
    )
    with pytest.raises(ValueError, match=f"^{problem}$"):
        check_inversion(weak, bare)
    assert run_editor(weak, model, bare, REQUESTS) == [problem] * 2
    check_inversion(weak, inversion)

    needy = Negative()
    needy.needs = frozenset({"trajectory"})
    with pytest.raises(ValueError, match=r"^Negative needs an inversion that kept its trajectory"):
        check_inversion(needy, bare)
    needy.needs = frozenset({"noise"})
    with pytest.raises(ValueError, match=r"^Negative needs a sampler that draws noise"):
        check_inversion(needy, inversion)
