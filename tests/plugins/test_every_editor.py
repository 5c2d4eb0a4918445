"""Every registered editor over every inversion method, on the shipped model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from renoise.inversion.methods import InversionMethod, make_inverter

from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest, check_needs, load_editors, run_editor
from renoise.inversion.base import Inversion, sample
from renoise.models.base import DiffusionModel
from renoise.models.schedulers import replace_scheduler

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
REQUESTS = [
    EditRequest("a.png", PROMPTS[0], "a wolf on a plain red background"),
    EditRequest("b.png", PROMPTS[1], "a frog on a dotted blue background"),
]
GUIDANCE = 2.0
EDITORS = ("EditFriendly", "NegativePrompt", "NullText", "Pix2PixZero", "PromptSwap", "PromptToPrompt")


def test_no_registered_editor_is_left_out() -> None:
    assert sorted(EDITORS) == sorted(load_editors())


@pytest.fixture(scope="module")
def schedule(model: DiffusionModel) -> Schedule:
    sampler = replace_scheduler(model.scheduler, "EulerAncestralDiscreteScheduler", None)
    return Schedule.from_scheduler(sampler, 4)


@pytest.fixture(scope="module", params=get_args(InversionMethod))
def inversion(request: pytest.FixtureRequest, model: DiffusionModel, schedule: Schedule) -> Inversion:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    correction = NoiseCorrection("override")
    inverter = make_inverter(request.param, model, schedule, Renoising(2), None, correction, 0, True, GUIDANCE)
    return inverter.invert(latents, model.encode_prompts(PROMPTS, GUIDANCE), ["a", "b"])


every_editor = pytest.mark.parametrize("name", EDITORS)


@torch.no_grad()
@every_editor
def test_it_edits_each_image_by_itself_and_leaves_model_and_inversion_as_they_were(
    model: DiffusionModel, schedule: Schedule, inversion: Inversion, name: str
) -> None:
    editor = load_editors()[name](guidance_scale=GUIDANCE)
    check_needs(editor, model, schedule)
    before, processors = inversion.select([0, 1]), dict(model.pipeline.unet.attn_processors)
    together = run_editor(editor, model, inversion, REQUESTS)
    assert all(isinstance(image, torch.Tensor) for image in together), together
    images = torch.stack([image for image in together if isinstance(image, torch.Tensor)])
    assert images.shape == (2, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    rebuilt = model.decode_latents(sample(model, inversion))
    assert (images - rebuilt).abs().flatten(1).amax(dim=1).min() > 0.02, "nothing was edited"
    (alone,) = run_editor(editor, model, inversion.select([1]), REQUESTS[1:])
    torch.testing.assert_close(alone, images[1], rtol=2e-3, atol=2e-3)
    assert model.pipeline.unet.attn_processors == processors
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for field in ("latents", "noise", "trajectory", "null_embeddings"):
        old, new = getattr(before, field), getattr(inversion, field)
        assert (old is None and new is None) or old.equal(new)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options", "branch"),
    [
        ("PromptSwap", {}, "guided"),
        ("EditFriendly", {"strength": 1.0}, "guided"),
        ("PromptToPrompt", {}, "inversion's own"),
        ("NullText", {"iterations": 1}, "inversion's own"),
        ("NegativePrompt", {}, "unguided"),
        ("NegativePrompt", {"proximal_quantile": 0.5}, "unguided"),
    ],
)
def test_told_nothing_new_it_samples_the_images_own_prompt(
    model: DiffusionModel, inversion: Inversion, name: str, options: dict[str, Any], branch: str
) -> None:
    same = [EditRequest(each.file_name, each.prompt, each.prompt) for each in REQUESTS]
    guidance = inversion.conditioning.guidance_scale if branch == "inversion's own" else GUIDANCE  # direct has none
    edited = load_editors()[name](guidance_scale=guidance, **options).edit(model, inversion, same)
    scale = {"guided": GUIDANCE, "unguided": 1.0}.get(branch)
    own = None if scale is None else model.encode_prompts(PROMPTS, scale)
    expected = model.decode_latents(sample(model, inversion, own))
    torch.testing.assert_close(edited, expected, rtol=5e-3, atol=5e-3)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Path]) -> Path:
    root = pictures(tmp_path_factory.mktemp("scenes"), "a.png", "b.png", "c.png")
    rows = [
        {"file_name": "a.png", "text": PROMPTS[0], "edit_text": REQUESTS[0].edit_prompt},
        {"file_name": "b.png", "text": PROMPTS[1]},
        {"file_name": "c.png", "text": PROMPTS[1], "edit_text": "a frog with a hat on a dotted blue background"},
    ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


@pytest.mark.parametrize("method", ["edit_friendly", "null_text"])
def test_one_command_runs_them_all_on_one_inversion_and_the_manifest_says_of_each_how_it_went(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any], method: str
) -> None:
    editors = [{"class_path": name, "init_args": {"guidance_scale": 2.0}} for name in EDITORS]
    run = predict(
        scenes,
        tmp_path,
        f"--model.inversion={method}",
        "--model.scheduler=EulerAncestralDiscreteScheduler",
        "--model.guidance_scale=2",
        f"--model.editors={json.dumps(editors)}",
    )
    assert run.status == 0, run.err
    lines = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["file_name"]: row["edits"] for row in map(json.loads, lines)}
    assert rows["a.png"] == dict.fromkeys(EDITORS, "ok")
    assert all("no edit_text" in reason for reason in rows["b.png"].values())
    assert "mode: refine" in rows["c.png"]["PromptToPrompt"]
    assert {name for name, outcome in rows["c.png"].items() if outcome == "ok"} == set(EDITORS) - {"PromptToPrompt"}
    for name in EDITORS:
        assert (tmp_path / "edits" / name / "a.png.png").exists()
        assert not (tmp_path / "edits" / name / "b.png.png").exists()


def test_an_editor_that_needs_noise_is_refused_under_a_sampler_that_draws_none(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    run = predict(scenes, tmp_path, "--model.editors=[EditFriendly]")
    assert run.status == 2
    assert "EditFriendly needs a sampler that draws noise" in run.err
    assert not (tmp_path / "manifest.jsonl").exists()


def test_null_text_inversion_without_guidance_is_refused_before_any_image(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    run = predict(scenes, tmp_path, "--model.inversion=null_text")
    assert run.status == 2
    assert "model.inversion null_text needs model.guidance_scale other than 1" in run.err
