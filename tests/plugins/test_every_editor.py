"""Every shipped editor on every inversion method."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import PROMPTS, REQUESTS, UNCHANGED, invert

from renoise.core.noise_correction import NoiseCorrection
from renoise.core.schedule import Schedule
from renoise.editing.discovery import load_editors
from renoise.editing.prompt_editor import PromptEditor
from renoise.editing.runner import check_needs, run_editor
from renoise.inversion.base import Inversion
from renoise.inversion.ddim import DDIM
from renoise.inversion.direct import DirectInversion
from renoise.inversion.edit_friendly import EditFriendlyInversion
from renoise.inversion.null_text import NullTextInversion
from renoise.inversion.null_text_optimization import NullTextOptimization
from renoise.inversion.pix2pix_zero import Pix2PixZeroInversion
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.schedulers import replace_scheduler

GUIDANCE_SCALE = 2.0
EDITORS = ("EditFriendly", "NegativePrompt", "NullText", "Pix2PixZero", "PromptSwap", "PromptToPrompt")
CORRECTION = NoiseCorrection("override")
METHODS = [
    ReNoise(iterations=2, noise_correction=CORRECTION),
    DDIM(CORRECTION),
    Pix2PixZeroInversion(noise_correction=CORRECTION),
    EditFriendlyInversion(iterations=2),
    NullTextInversion(NullTextOptimization(iterations=2), DDIM(CORRECTION)),
    DirectInversion(DDIM(CORRECTION)),
]

every_editor = pytest.mark.parametrize("name", EDITORS)


def make_editor(name: str, **options: Any) -> PromptEditor:
    few = {"iterations": 2} if name == "NullText" else {}
    editor = load_editors()[name](**few | options)
    assert isinstance(editor, PromptEditor)
    return editor


@pytest.fixture(scope="module")
def schedule(model: DiffusionModel) -> Schedule:
    scheduler = replace_scheduler(model.scheduler, "EulerAncestralDiscreteScheduler", None)
    return Schedule.from_scheduler(scheduler, 4)


@pytest.fixture(scope="module", params=METHODS, ids=lambda method: type(method).__name__)
def inversion(request: pytest.FixtureRequest, model: DiffusionModel, schedule: Schedule) -> Inversion:
    return invert(model, request.param, schedule=schedule, guidance_scale=GUIDANCE_SCALE)


@torch.no_grad()
@every_editor
def test_an_editor_edits_each_image_by_itself_and_leaves_model_and_inversion_unchanged(
    model: DiffusionModel, schedule: Schedule, inversion: Inversion, name: str
) -> None:
    editor = make_editor(name, guidance_scale=GUIDANCE_SCALE)
    check_needs(editor, model, schedule)
    before = inversion.select([0, 1])
    processors = dict(model.network.attn_processors)
    together = run_editor(editor, model, inversion, REQUESTS)
    assert all(isinstance(image, torch.Tensor) for image in together), together
    images = torch.stack([image for image in together if isinstance(image, torch.Tensor)])
    assert images.shape == (2, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    reconstructions = model.decode_latents(sample(model, inversion))
    assert (images - reconstructions).abs().flatten(1).amax(dim=1).min() > 0.02, "nothing was edited"
    (alone,) = run_editor(editor, model, inversion.select([1]), REQUESTS[1:])
    torch.testing.assert_close(alone, images[1], rtol=2e-3, atol=2e-3)
    assert model.network.attn_processors == processors
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for field in ("latents", "noise", "trajectory", "null_embeddings"):
        old, new = getattr(before, field), getattr(inversion, field)
        assert (old is None and new is None) or old.equal(new)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("PromptSwap", {}, "guided sampling"),
        ("EditFriendly", {"strength": 1.0}, "guided sampling"),
        ("PromptToPrompt", {"cross_replace_steps": 1.0, "self_replace_steps": 1.0}, "reconstruction"),
        ("NullText", {"iterations": 1}, "reconstruction"),
        ("NegativePrompt", {}, "sampling without guidance"),
        ("NegativePrompt", {"proximal_quantile": 0.5}, "sampling without guidance"),
    ],
)
def test_an_unchanged_prompt_gives_what_sampling_under_it_gives(
    model: DiffusionModel, inversion: Inversion, name: str, options: dict[str, Any], expected: str
) -> None:
    # Direct inversion is without guidance.
    own_scale = inversion.conditioning.guidance_scale
    editor_scale = own_scale if expected == "reconstruction" else GUIDANCE_SCALE
    edited = make_editor(name, guidance_scale=editor_scale, **options).edit(model, inversion, UNCHANGED)
    scales = {"guided sampling": GUIDANCE_SCALE, "sampling without guidance": 1.0}
    conditioning = model.encode_prompts(PROMPTS, scales[expected]) if expected in scales else None
    images = model.decode_latents(sample(model, inversion, conditioning))
    torch.testing.assert_close(edited, images, rtol=5e-3, atol=5e-3)


@torch.no_grad()
@every_editor
def test_an_edit_of_less_strength_is_nearer_to_the_image(model: DiffusionModel, name: str) -> None:
    inversion = invert(model, ReNoise(iterations=1), steps=4)
    assert inversion.trajectory is not None
    images = model.decode_latents(inversion.trajectory[-1])
    errors = [
        float((editor.edit(model, inversion, REQUESTS) - images).square().mean())
        for editor in (make_editor(name, guidance_scale=3, strength=strength) for strength in (0.25, 0.5, 1.0))
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize(
    ("name", "options", "needs"),
    [
        ("PromptSwap", {}, set()),
        ("PromptSwap", {"strength": 0.5}, {"trajectory"}),
        ("NegativePrompt", {}, set()),
        ("EditFriendly", {}, {"trajectory", "noise"}),
        ("EditFriendly", {"strength": 1.0}, {"noise"}),
        ("NullText", {}, {"trajectory", "steps"}),
        ("NullText", {"guidance_scale": 1.0}, set()),
        ("Pix2PixZero", {}, {"attention", "steps"}),
        ("Pix2PixZero", {"cross_attention_guidance_amount": 0.0}, {"steps"}),
        ("Pix2PixZero", {"strength": 0.5}, {"attention", "trajectory", "steps"}),
        ("PromptToPrompt", {}, {"attention", "steps"}),
        ("PromptToPrompt", {"strength": 0.5}, {"attention", "trajectory", "steps"}),
    ],
)
def test_an_editor_needs_only_what_its_options_require(name: str, options: dict[str, Any], needs: set[str]) -> None:
    assert make_editor(name, **options).needs == needs


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Path]) -> Path:
    """Three images: with an edit text, without one, and with one that has more words than the prompt."""
    root = pictures(tmp_path_factory.mktemp("scenes"), "a.png", "b.png", "c.png")
    rows = [
        {"file_name": "a.png", "text": PROMPTS[0], "edit_text": REQUESTS[0].edit_prompt},
        {"file_name": "b.png", "text": PROMPTS[1]},
        {"file_name": "c.png", "text": PROMPTS[1], "edit_text": "a frog with a hat on a dotted blue background"},
    ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


@pytest.mark.parametrize("method", ["EditFriendlyInversion", "NullTextInversion"])
def test_one_run_applies_all_editors_and_the_manifest_has_each_outcome(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any], method: str
) -> None:
    editors = [{"class_path": name, "init_args": {"guidance_scale": 2.0}} for name in EDITORS]
    editors.append({"class_path": "PromptSwap", "init_args": {"replace": {"dog": "frog"}}})
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
    edits = {row["file_name"]: row["edits"] for row in map(json.loads, lines)}
    second = {name: outcomes.pop("PromptSwap-2") for name, outcomes in edits.items()}
    assert second == {
        "a.png": f"the prompt {PROMPTS[0]!r} contains none of the words to replace: dog",
        "b.png": "ok",
        "c.png": "ok",
    }
    assert edits["a.png"] == dict.fromkeys(EDITORS, "ok")
    assert all("no edit_text" in reason for reason in edits["b.png"].values())
    assert "mode: refine" in edits["c.png"]["PromptToPrompt"]
    assert {name for name, outcome in edits["c.png"].items() if outcome == "ok"} == set(EDITORS) - {"PromptToPrompt"}
    for name in EDITORS:
        assert (tmp_path / "edits" / name / "a.png.png").exists()
        assert not (tmp_path / "edits" / name / "b.png.png").exists()
    assert (tmp_path / "edits/PromptSwap-2/b.png.png").exists()


def test_a_run_with_an_editor_that_the_sampler_cannot_serve_stops_before_any_image(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    run = predict(scenes, tmp_path, "--model.editors=[EditFriendly]")
    assert run.status == 2
    assert "EditFriendly needs a sampler that draws noise" in run.err
    assert not (tmp_path / "manifest.jsonl").exists()


@pytest.mark.parametrize(
    "editors", ["PromptSwop", "[PromptSwop]", "[{class_path: PromptSwop}]", "[renoise_plugins.PromptSwap]"]
)
def test_an_unknown_editor_is_an_error_that_lists_the_installed_ones(
    editors: str, scenes: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    run = predict(scenes, tmp_path / "out", f"--model.editors={editors}")
    assert run.status == 2
    assert ", ".join(sorted([*EDITORS, "FlowEdit"])) in run.err
    assert "Traceback" not in run.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_of_an_editor_is_an_error_that_lists_its_options(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    run = predict(scenes, tmp_path, "--model.editors=[{class_path: PromptSwap, init_args: {guidance: 2}}]")
    assert run.status == 2
    assert all(option in run.err for option in ("replace", "guidance_scale", "strength"))


@every_editor
def test_a_strength_that_leaves_no_step_is_refused(model: DiffusionModel, schedule: Schedule, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: strength 0.1 of 4 steps leaves no step to run; it must be 0.25"):
        make_editor(name, strength=0.1).check(model, schedule)


def test_an_option_out_of_range_is_an_error_of_one_line(
    scenes: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    run = predict(scenes, tmp_path, "--model.editors=[{class_path: PromptSwap, init_args: {guidance_scale: 0.5}}]")
    assert run.status == 2
    expected = "guidance_scale must be 1 (no guidance; 0 means the same) or more, got 0.5"
    assert run.err == f"error: model.editors: PromptSwap: {expected}\n"
