from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_stable_diffusion_pix2pix_zero import (
    Pix2PixZeroL2Loss,
)
from helpers.edits import PROMPTS, REQUESTS, invert
from helpers.pix2pix_zero import diffusers_attention, direction_by_sentence, load_tiny
from renoise_plugins.pix2pix_zero import Pix2PixZero
from renoise_plugins.pix2pix_zero import editor as editor_module
from renoise_plugins.pix2pix_zero.direction import Direction, add_directions

from renoise.editing.base import EditRequest
from renoise.inversion.base import Inversion
from renoise.inversion.direct import DirectInversion
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel

STEPS = 3
each_model = pytest.mark.parametrize("checkpoint", ["tiny-sd", "tiny-sdxl"])


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return invert(model, ReNoise(iterations=1), steps=STEPS)


@torch.no_grad()
@each_model
@pytest.mark.parametrize(
    ("guidance_scale", "negative", "negative_prompts"),
    [(1.0, "source", None), (3.0, "source", PROMPTS[:1]), (3.0, "empty", None)],
)
def test_without_attention_guidance_it_samples_under_the_moved_embeddings(
    checkpoint: str, guidance_scale: float, negative: Literal["source", "empty"], negative_prompts: list[str] | None
) -> None:
    model = load_tiny(checkpoint)
    inversion = invert(model, steps=STEPS, prompts=PROMPTS[:1])
    conditioning = model.encode_prompts(PROMPTS[:1], guidance_scale, negative_prompts)
    cat, wolf = model.encode_prompts(["cat"]), model.encode_prompts(["wolf"])
    conditioning.prompt_embeds.add_(wolf.prompt_embeds - cat.prompt_embeds)
    if conditioning.pooled_prompt_embeds is not None:
        conditioning.pooled_prompt_embeds.add_(wolf.pooled_prompt_embeds - cat.pooled_prompt_embeds)
    editor = Pix2PixZero(
        {"cat": "wolf"}, guidance_scale, negative=negative, cross_attention_guidance_amount=0, templates=["{}"]
    )
    expected = model.decode_latents(sample(model, inversion, conditioning))
    torch.testing.assert_close(editor.edit(model, inversion, REQUESTS[:1]), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_two_substitutions_move_along_the_sum_of_two_directions(model: DiffusionModel, inversion: Inversion) -> None:
    conditioning = model.encode_prompts(PROMPTS[1:])
    for source, target in (("dog", "frog"), ("dotted", "striped")):
        conditioning.prompt_embeds.add_(direction_by_sentence(model, [f"a {source}"], [f"a {target}"], "prompt_embeds"))
    editor = Pix2PixZero(guidance_scale=1, cross_attention_guidance_amount=0, templates=["a {}"])
    expected = model.decode_latents(sample(model, inversion.select([1]), conditioning))
    edited = editor.edit(model, inversion.select([1]), REQUESTS[1:])
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-4)


@torch.no_grad()
@each_model
def test_an_edit_equals_the_published_loop_step_by_step(checkpoint: str) -> None:
    """As in diffusers' pipeline for one image: its maps, its loss, one step of SGD, the sampler's step."""
    model = load_tiny(checkpoint)
    inversion = invert(model, ReNoise(iterations=1), steps=STEPS, prompts=PROMPTS[:1])
    source, amount = model.encode_prompts(PROMPTS[:1]), 2.0
    target = add_directions(source, [Direction.between(model, ["cat"], ["wolf"])])
    source_latents = latents = inversion.latents
    assert {step.input_scale for step in inversion.schedule} == {1.0}
    for step in inversion.schedule:
        timestep, loss = torch.tensor(step.timestep), Pix2PixZeroL2Loss()
        arguments: dict[str, Any] = {"cross_attention_kwargs": {"timestep": timestep}}
        with diffusers_attention(model):
            prediction = model.network(source_latents, timestep, **model.network_inputs([source]), **arguments).sample
            source_latents = step.phi * source_latents + step.psi * prediction
            with torch.enable_grad():
                parameter = latents.clone().requires_grad_()
                arguments["cross_attention_kwargs"]["loss"] = loss
                model.network(parameter, timestep, **model.network_inputs([target]), **arguments)
                loss.loss.backward()
                torch.optim.SGD([parameter], lr=amount).step()
            latents = parameter.detach()
            prediction = model.network(latents, timestep, **model.network_inputs([target])).sample
            latents = step.phi * latents + step.psi * prediction
    editor = Pix2PixZero(guidance_scale=1, cross_attention_guidance_amount=amount, templates=["{}"])
    edited = editor.edit(model, inversion, REQUESTS[:1])
    torch.testing.assert_close(edited, model.decode_latents(latents), rtol=0, atol=2e-3)
    without = Pix2PixZero(guidance_scale=1, cross_attention_guidance_amount=0, templates=["{}"])
    assert float((edited - without.edit(model, inversion, REQUESTS[:1])).abs().max()) > 5e-2


@torch.no_grad()
def test_in_a_direction_that_leads_nowhere_only_guidance_from_the_empty_prompt_changes_the_image(
    model: DiffusionModel, inversion: Inversion, tmp_path: Path
) -> None:
    """ε(c) + s · (ε(c) − ε(c)) is what reconstructs. The maps are equal, so their gradient is zero."""
    (tmp_path / "cats.txt").write_text("a cat\n")
    reconstructions = model.decode_latents(sample(model, inversion))
    changes = {}
    for negative in ("source", "empty"):
        editor = Pix2PixZero(
            guidance_scale=3.0,
            negative=negative,
            source_sentences=tmp_path / "cats.txt",
            target_sentences=tmp_path / "cats.txt",
        )
        changes[negative] = float((editor.edit(model, inversion, REQUESTS) - reconstructions).abs().max())
    assert changes["source"] < 1e-3
    assert changes["empty"] > 0.1


@torch.no_grad()
def test_the_image_sampled_beside_the_edit_follows_the_trajectory_of_direct_inversion(model: DiffusionModel) -> None:
    direct = invert(model, DirectInversion(), steps=STEPS)
    seen: list[torch.Tensor] = []

    class Recorded(Inversion):
        def denoise_reference(self, step_index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
            seen.append(latents)
            return super().denoise_reference(step_index, latents, prediction)

    Pix2PixZero().edit(model, Recorded(**vars(direct)), REQUESTS)
    assert direct.trajectory is not None
    assert torch.equal(torch.stack(seen), direct.trajectory[:STEPS])


# The cache of directions


def count_tensors() -> int:
    """Returns how many tensors are in memory."""
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)


@torch.no_grad()
def test_edits_keep_nothing_in_memory_except_directions(model: DiffusionModel, inversion: Inversion) -> None:
    editor = Pix2PixZero()
    editor.edit(model, inversion, REQUESTS)
    after_one = count_tensors()
    editor.edit(model, inversion, REQUESTS)
    assert count_tensors() <= after_one


@torch.no_grad()
def test_memory_does_not_grow_when_every_image_has_its_own_words(
    model: DiffusionModel, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editor_module, "CACHED_DIRECTIONS", 3)
    editor, counts = Pix2PixZero(templates=["{}"], cross_attention_guidance_amount=0), []
    for number in range(6):
        requests = [replace(each, edit_prompt=each.prompt.replace("a ", f"thing{number} ")) for each in REQUESTS]
        editor.edit(model, inversion, requests)
        counts.append(count_tensors())
    assert counts[0] < counts[2] == counts[5]


@torch.no_grad()
def test_banks_are_encoded_once_for_each_model(
    tiny_sd: Path, model: DiffusionModel, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[list[str]] = []
    between = Direction.between

    def between_and_record(model: DiffusionModel, source: tuple[str, ...], target: tuple[str, ...]) -> Direction:
        encoded.append([*source, *target])
        return between(model, source, target)

    monkeypatch.setattr(Direction, "between", between_and_record)
    editor = Pix2PixZero(templates=["{}"], cross_attention_guidance_amount=0)
    for _ in range(2):
        editor.edit(model, inversion, REQUESTS)
    assert encoded == [["cat", "wolf"], ["dog", "frog"], ["dotted", "striped"]]
    editor.edit(load_tiny("tiny-sd"), inversion, REQUESTS)
    assert len(encoded) == 6


# Options and refusals


@torch.no_grad()
def test_banks_from_files_determine_the_direction_of_every_image(
    model: DiffusionModel, inversion: Inversion, tmp_path: Path
) -> None:
    source, target = ["a cat", "the cat sits"], ["a dog", "one dog", "a photo of a dog"]
    (tmp_path / "source.txt").write_text("\n".join(source))
    (tmp_path / "target.txt").write_text("\n".join(target))
    editor = Pix2PixZero(
        source_sentences=tmp_path / "source.txt",
        target_sentences=tmp_path / "target.txt",
        guidance_scale=1,
        cross_attention_guidance_amount=0,
    )
    requests = [replace(request, edit_prompt=None) for request in REQUESTS]
    assert [editor.refusal(request) for request in requests] == [None, None]
    conditioning = model.encode_prompts(PROMPTS)
    conditioning.prompt_embeds.add_(direction_by_sentence(model, source, target, "prompt_embeds"))
    expected = model.decode_latents(sample(model, inversion, conditioning))
    torch.testing.assert_close(editor.edit(model, inversion, requests), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("option", ["source_sentences", "target_sentences"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"\n \n", "is empty"), (b"\xff\xfe\x00", "cannot be read as text"), (None, "cannot be read as text")],
    ids=["empty", "not text", "missing"],
)
def test_a_bank_that_cannot_be_read_is_an_error_with_its_option(
    option: str, content: bytes | None, problem: str, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.txt" for name in ("source_sentences", "target_sentences")}
    for path in files.values():
        path.write_text("a cat\n")
    if content is None:
        files[option].unlink()
    else:
        files[option].write_bytes(content)
    with pytest.raises(ValueError, match=rf"^Pix2PixZero: {option}: .*{option}\.txt {problem}"):
        Pix2PixZero(**files)


def test_banks_cannot_be_combined_with_words_to_replace(tmp_path: Path) -> None:
    bank = tmp_path / "cats.txt"
    bank.write_text("a cat\n")
    with pytest.raises(ValueError, match=r"^Pix2PixZero: replace cannot be combined with source_sentences"):
        Pix2PixZero({"cat": "dog"}, source_sentences=bank, target_sentences=bank)
    with pytest.raises(ValueError, match=r"^Pix2PixZero: templates cannot be combined with source_sentences"):
        Pix2PixZero(source_sentences=bank, target_sentences=bank, templates=["a {}"])


@pytest.mark.parametrize("option", ["source_sentences", "target_sentences"])
def test_one_bank_without_the_other_is_an_error(option: str, tmp_path: Path) -> None:
    (tmp_path / "cats.txt").write_text("a cat\n")
    with pytest.raises(ValueError, match=r"^Pix2PixZero: source_sentences and target_sentences need each other"):
        Pix2PixZero(**{option: tmp_path / "cats.txt"})


@pytest.mark.parametrize("templates", [[], ["a photo"], ["a {}", "the"]])
def test_templates_without_a_placeholder_are_an_error(templates: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Pix2PixZero: templates must be sentences that contain \{\}, got"):
        Pix2PixZero(templates=templates)


def test_an_unknown_negative_is_an_error() -> None:
    unknown: Any = "soruce"
    with pytest.raises(ValueError, match=r"^Pix2PixZero: negative must be source or empty, got 'soruce'"):
        Pix2PixZero(negative=unknown)


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf")])
def test_an_amount_out_of_range_is_an_error(amount: float) -> None:
    with pytest.raises(ValueError, match=r"^Pix2PixZero: cross_attention_guidance_amount must be 0 or more, got"):
        Pix2PixZero(cross_attention_guidance_amount=amount)


@pytest.mark.parametrize(
    ("prompt", "edit_prompt"), [("a cat", "a cat with a hat"), ("a cat with a hat", "a cat"), ("a cat", "a Cat")]
)
def test_a_prompt_without_substitution_is_refused(prompt: str, edit_prompt: str) -> None:
    refusal = Pix2PixZero().refusal(EditRequest("a.png", prompt, edit_prompt))
    assert refusal is not None
    assert refusal.startswith(f"no word of the prompt {prompt!r} is replaced by another in {edit_prompt!r}")


def test_an_image_without_edit_prompt_is_refused_unless_words_are_replaced() -> None:
    request = EditRequest("a.png", "a cat", None)
    assert "no edit_text" in str(Pix2PixZero().refusal(request))
    assert Pix2PixZero(replace={"cat": "dog"}).refusal(request) is None
