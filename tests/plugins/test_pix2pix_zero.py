from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_variants.pipeline_stable_diffusion_pix2pix_zero import (
    Pix2PixZeroAttnProcessor,
    Pix2PixZeroL2Loss,
)
from renoise_plugins.pix2pix_zero import Pix2PixZero
from renoise_plugins.pix2pix_zero import editor as editor_module
from renoise_plugins.pix2pix_zero.attention_distance import DistanceFromMaps, SourceMaps
from renoise_plugins.pix2pix_zero.direction import SENTENCES_AT_ONCE, TEMPLATES, Direction, moved, read_bank
from renoise_plugins.prompt_swap import PromptSwap

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter, sample
from renoise.inversion.direct import DirectInverter
from renoise.models.attention import controlled_attention
from renoise.models.base import Conditioning, DiffusionModel
from renoise.models.loading import load_model

PROMPTS = ["a cat on a plain red background", "a dog on a dotted blue background"]
REQUESTS = [
    EditRequest("a.png", PROMPTS[0], "a wolf on a plain red background"),
    EditRequest("b.png", PROMPTS[1], "a frog on a striped blue background"),
]
SOURCE, TARGET = ["a cat", "a photo of a cat", "the cat sits"], ["a dog", "one dog"]
STEPS = 3


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_sdxl"])
def either(request: pytest.FixtureRequest) -> DiffusionModel:
    source: Path = request.getfixturevalue(request.param)
    return load_model(str(source))


def inverter(model: DiffusionModel) -> Inverter:
    return Inverter(model, Schedule.from_scheduler(model.scheduler, STEPS), Renoising(1), keep_trajectory=True)


def noise(seed: int, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    return inverter(model).invert(noise(0), model.encode_prompts(PROMPTS), ["a", "b"])


# The distance


def our_distance(
    model: DiffusionModel, source: torch.Tensor, edited: torch.Tensor, told: Conditioning, new: Conditioning
) -> tuple[torch.Tensor, torch.Tensor]:
    """It and its gradient on the latents of the edit."""
    maps = SourceMaps(len(source))
    with controlled_attention(model.pipeline.unet, maps), torch.no_grad():
        model.predict(source, 501, told)
    latents, distance = edited.clone().requires_grad_(), DistanceFromMaps(maps.layers)
    with controlled_attention(model.pipeline.unet, distance), torch.enable_grad():
        model.predict(latents, 501, new)
    return distance.total.detach(), torch.autograd.grad(distance.total, latents)[0]


@pytest.fixture
def diffusers_own(either: DiffusionModel) -> Iterator[DiffusionModel]:
    """The model with the attention of diffusers' pix2pix-zero pipeline."""
    unet = either.pipeline.unet
    processors = unet.attn_processors
    unet.set_attn_processor({name: Pix2PixZeroAttnProcessor("attn2" in name) for name in processors})
    yield either
    unet.set_attn_processor(dict(processors))


def test_the_distance_of_one_image_and_its_gradient_are_diffusers_own(diffusers_own: DiffusionModel) -> None:
    model, source, edited = diffusers_own, noise(1, 1), noise(2, 1)
    old, new = (model.encode_prompts([prompt]) for prompt in PROMPTS)
    timestep, loss, latents = torch.tensor(501), Pix2PixZeroL2Loss(), edited.clone().requires_grad_()
    kept = {"cross_attention_kwargs": {"timestep": timestep}}
    with torch.no_grad():
        model.unet(source, timestep, **model.network_inputs([old]), **kept)
    kept["cross_attention_kwargs"] = {"timestep": timestep, "loss": loss}
    model.unet(latents, timestep, **model.network_inputs([new]), **kept)
    (expected,) = torch.autograd.grad(loss.loss, latents)
    distance, gradient = our_distance(model, source, edited, old, new)
    assert float(distance) > 0
    torch.testing.assert_close(distance, loss.loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_with_guidance_the_distance_is_from_the_maps_of_the_prompts(model: DiffusionModel) -> None:
    told, new = (model.encode_prompts(prompts, 3.0) for prompts in (PROMPTS, PROMPTS[::-1]))
    guided = our_distance(model, noise(1), noise(2), told, new.conditional)
    without = our_distance(model, noise(1), noise(2), told.conditional, new.conditional)
    for one, other in zip(guided, without, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_the_gradient_of_an_image_does_not_depend_on_its_neighbors(model: DiffusionModel) -> None:
    told, new = model.encode_prompts(PROMPTS), model.encode_prompts(PROMPTS[::-1])
    total, together = our_distance(model, noise(1), noise(2), told, new)
    distances = []
    for row in range(2):
        index = torch.tensor([row])
        alone, gradient = our_distance(
            model, noise(1)[row : row + 1], noise(2)[row : row + 1], told.select(index), new.select(index)
        )
        distances.append(alone)
        torch.testing.assert_close(gradient[0], together[row], rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
    torch.testing.assert_close(torch.stack(distances).sum(), total)


def test_the_distance_of_an_image_from_itself_is_none(model: DiffusionModel) -> None:
    told = model.encode_prompts(PROMPTS)
    distance, gradient = our_distance(model, noise(1), noise(1), told, told)
    assert float(distance) < 1e-6
    assert float(gradient.abs().max()) < 1e-4


def test_a_step_down_the_gradient_comes_nearer_the_sources_maps(model: DiffusionModel) -> None:
    told, new = model.encode_prompts(PROMPTS), model.encode_prompts(PROMPTS[::-1])
    before, gradient = our_distance(model, noise(1), noise(2), told, new)
    length = 1e-2 * float(before) / float(gradient.square().sum())
    after, _ = our_distance(model, noise(1), noise(2) - length * gradient, told, new)
    assert 0.98 * before < after < 0.995 * before  # 1 % to first order


# The direction


def by_hand(model: DiffusionModel, source: list[str], target: list[str], field: str) -> torch.Tensor:
    """The mean difference of two banks, sentence by sentence."""
    means = []
    for bank in (source, target):
        total = 0.0
        for sentence in bank:
            total = total + getattr(model.encode_prompts([sentence]), field)[0].double()
        means.append(total / len(bank))
    difference: torch.Tensor = means[1] - means[0]
    return difference.float()


def test_the_direction_is_the_mean_difference_of_two_banks(either: DiffusionModel) -> None:
    direction = Direction.between(either, SOURCE, TARGET)
    expected = by_hand(either, SOURCE, TARGET, "prompt_embeds")
    torch.testing.assert_close(direction.embeds, expected, rtol=1e-4, atol=1e-5)
    if either.family == "StableDiffusionPipeline":
        assert direction.pooled is None
    else:
        assert direction.pooled is not None
        expected = by_hand(either, SOURCE, TARGET, "pooled_prompt_embeds")
        torch.testing.assert_close(direction.pooled, expected, rtol=1e-4, atol=1e-5)


def test_a_bank_of_more_sentences_than_are_encoded_at_once_counts_each_of_them(model: DiffusionModel) -> None:
    many = [f"a cat number {number}" for number in range(SENTENCES_AT_ONCE + 3)]
    direction = Direction.between(model, many, TARGET)
    expected = by_hand(model, many, TARGET, "prompt_embeds")
    torch.testing.assert_close(direction.embeds, expected, rtol=1e-4, atol=1e-5)


def test_there_and_back_is_nowhere_and_two_directions_add_up(either: DiffusionModel) -> None:
    there, back = Direction.between(either, SOURCE, TARGET), Direction.between(either, TARGET, SOURCE)
    on = Direction.between(either, TARGET, ["a frog"])
    straight = Direction.between(either, SOURCE, ["a frog"])
    for field in ("embeds", "pooled"):
        nowhere, sum_of_two, whole = (getattr(each, field) for each in (there + back, there + on, straight))
        if whole is None:
            assert nowhere is sum_of_two is None
            continue
        torch.testing.assert_close(nowhere, torch.zeros_like(nowhere))
        torch.testing.assert_close(sum_of_two, whole, rtol=1e-4, atol=1e-5)


def test_each_prompt_moves_along_its_own_direction_and_the_unconditional_branch_stays(either: DiffusionModel) -> None:
    own = either.encode_prompts(PROMPTS, 3.0)
    directions = [Direction.between(either, SOURCE, TARGET), Direction.between(either, TARGET, ["a frog"])]
    told = moved(own, directions)
    assert told.unconditional is not None
    assert torch.equal(told.unconditional.prompt_embeds, own.unconditional.prompt_embeds)
    for row, direction in enumerate(directions):
        assert torch.equal(told.prompt_embeds[row], own.prompt_embeds[row] + direction.embeds)
        if direction.pooled is not None:
            assert told.pooled_prompt_embeds is not None
            assert own.pooled_prompt_embeds is not None
            assert torch.equal(told.pooled_prompt_embeds[row], own.pooled_prompt_embeds[row] + direction.pooled)
            assert torch.equal(told.negative_pooled_prompt_embeds, own.negative_pooled_prompt_embeds)


# The edit


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_without_attention_guidance_it_samples_under_the_moved_embeddings(
    either: DiffusionModel, guidance_scale: float
) -> None:
    inversion = inverter(either).invert(noise(0, 1), either.encode_prompts(PROMPTS[:1]), ["a"])
    told = either.encode_prompts(PROMPTS[:1], guidance_scale)
    cat, wolf = (either.encode_prompts([word]) for word in ("cat", "wolf"))
    told.prompt_embeds.add_(wolf.prompt_embeds - cat.prompt_embeds)
    if told.pooled_prompt_embeds is not None:
        told.pooled_prompt_embeds.add_(wolf.pooled_prompt_embeds - cat.pooled_prompt_embeds)
    editor = Pix2PixZero(
        guidance_scale=guidance_scale, cross_attention_guidance_amount=0, templates=["{}"], replace={"cat": "wolf"}
    )
    expected = either.decode_latents(sample(either, inversion, told))
    torch.testing.assert_close(editor.edit(either, inversion, REQUESTS[:1]), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_two_words_that_give_way_go_in_the_sum_of_two_directions(model: DiffusionModel, inversion: Inversion) -> None:
    told = model.encode_prompts(PROMPTS[1:])
    for old, new in (("dog", "frog"), ("dotted", "striped")):
        told.prompt_embeds.add_(by_hand(model, [f"a {old}"], [f"a {new}"], "prompt_embeds"))
    editor = Pix2PixZero(guidance_scale=1, cross_attention_guidance_amount=0, templates=["a {}"])
    expected = model.decode_latents(sample(model, inversion.select([1]), told))
    edited = editor.edit(model, inversion.select([1]), REQUESTS[1:])
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_edit_is_the_published_loop_step_by_step(diffusers_own: DiffusionModel) -> None:
    """As diffusers' pipeline has it for one image: its maps, its loss, a step of SGD, the sampler's step."""
    model = diffusers_own
    inversion = inverter(model).invert(noise(0, 1), model.encode_prompts(PROMPTS[:1]), ["a"])
    own, amount = model.encode_prompts(PROMPTS[:1]), 2.0
    new = moved(own, [Direction.between(model, ["cat"], ["wolf"])])
    source = edited = inversion.latents
    for step in inversion.schedule:
        timestep, loss = torch.tensor(step.timestep), Pix2PixZeroL2Loss()
        inputs = {"cross_attention_kwargs": {"timestep": timestep}}
        prediction = model.unet(source, timestep, **model.network_inputs([own]), **inputs).sample
        source = step.phi * source + step.psi * prediction
        with torch.enable_grad():
            parameter = edited.clone().requires_grad_()
            inputs["cross_attention_kwargs"]["loss"] = loss
            model.unet(step.input_scale * parameter, timestep, **model.network_inputs([new]), **inputs)
            loss.loss.backward()
            torch.optim.SGD([parameter], lr=amount).step()
        edited = parameter.detach()
        prediction = model.unet(edited, timestep, **model.network_inputs([new])).sample
        edited = step.phi * edited + step.psi * prediction
    assert {step.input_scale for step in inversion.schedule} == {1.0}
    editor = Pix2PixZero(guidance_scale=1, cross_attention_guidance_amount=amount, templates=["{}"])
    found = editor.edit(model, inversion, REQUESTS[:1])
    torch.testing.assert_close(found, model.decode_latents(edited), rtol=0, atol=2e-3)
    free = Pix2PixZero(guidance_scale=1, cross_attention_guidance_amount=0, templates=["{}"])
    assert float((found - free.edit(model, inversion, REQUESTS[:1])).abs().max()) > 5e-2


@torch.no_grad()
def test_an_image_is_edited_alone_as_in_a_batch(model: DiffusionModel, inversion: Inversion) -> None:
    editor = Pix2PixZero()
    together = editor.edit(model, inversion, REQUESTS)
    assert together.shape == (2, 3, 32, 32)
    for row in range(2):
        alone = editor.edit(model, inversion.select([row]), REQUESTS[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-3)


@torch.no_grad()
def test_the_source_beside_the_edit_keeps_to_the_trajectory_where_the_inversion_does(model: DiffusionModel) -> None:
    plain = Inverter(model, Schedule.from_scheduler(model.scheduler, STEPS), Renoising(0), keep_trajectory=True)
    direct = DirectInverter(plain).invert(noise(0), model.encode_prompts(PROMPTS), ["a", "b"])
    seen: list[torch.Tensor] = []

    class Recorded(Inversion):
        def denoise_reference(self, index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
            seen.append(latents)
            return super().denoise_reference(index, latents, prediction)

    Pix2PixZero().edit(model, Recorded(**vars(direct)), REQUESTS)
    assert direct.trajectory is not None
    assert torch.equal(torch.stack(seen), direct.trajectory[:STEPS])


@torch.no_grad()
def test_below_full_strength_it_begins_at_a_cleaner_level(model: DiffusionModel, inversion: Inversion) -> None:
    assert inversion.trajectory is not None
    image = model.decode_latents(inversion.trajectory[-1])
    errors = [
        float((editor.edit(model, inversion, REQUESTS) - image).square().mean())
        for editor in (Pix2PixZero(guidance_scale=3, strength=strength) for strength in (0.34, 0.67, 1.0))
    ]
    assert errors == sorted(errors)


def living_tensors() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)


@torch.no_grad()
def test_edits_leave_nothing_in_memory_but_the_known_directions(model: DiffusionModel, inversion: Inversion) -> None:
    editor = Pix2PixZero()
    editor.edit(model, inversion, REQUESTS)
    after_one = living_tensors()
    editor.edit(model, inversion, REQUESTS)
    assert living_tensors() <= after_one


@torch.no_grad()
def test_memory_stays_flat_over_images_with_words_of_their_own(
    model: DiffusionModel, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editor_module, "NEWEST_DIRECTIONS", 3)
    editor, living = Pix2PixZero(templates=["{}"], cross_attention_guidance_amount=0), []
    for number in range(6):
        requests = [replace(each, edit_prompt=each.prompt.replace("a ", f"thing{number} ")) for each in REQUESTS]
        editor.edit(model, inversion, requests)
        living.append(living_tensors())
    assert living[0] < living[2] == living[5]


@torch.no_grad()
def test_banks_are_encoded_once_and_anew_for_another_model(
    tiny_sd: Path, model: DiffusionModel, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[list[str]] = []
    between = Direction.between

    def noted(model: DiffusionModel, source: tuple[str, ...], target: tuple[str, ...]) -> Direction:
        encoded.append([*source, *target])
        return between(model, source, target)

    monkeypatch.setattr(Direction, "between", noted)
    editor = Pix2PixZero(templates=["{}"], cross_attention_guidance_amount=0)
    for _ in range(2):
        editor.edit(model, inversion, REQUESTS)
    assert encoded == [["cat", "wolf"], ["dog", "frog"], ["dotted", "striped"]]
    editor.edit(load_model(str(tiny_sd)), inversion, REQUESTS)
    assert len(encoded) == 6


# Banks of sentences


def test_a_bank_is_a_sentence_a_line(tmp_path: Path) -> None:
    path = tmp_path / "cats.txt"
    path.write_text("\n  a cat on a café table  \r\n\n\tthe cat\n", encoding="utf-8")
    assert read_bank(path, "source_sentences") == ["a cat on a café table", "the cat"]


@torch.no_grad()
def test_banks_from_files_stand_for_the_words_of_every_image(
    model: DiffusionModel, inversion: Inversion, tmp_path: Path
) -> None:
    source, target = tmp_path / "cats.txt", tmp_path / "dogs.txt"
    source.write_text("\n".join(SOURCE))
    target.write_text("\n".join(TARGET))
    editor = Pix2PixZero(
        source_sentences=source, target_sentences=target, guidance_scale=1, cross_attention_guidance_amount=0
    )
    bare = [EditRequest("a.png", prompt, None) for prompt in PROMPTS]
    assert [editor.refusal(request) for request in bare] == [None, None]
    told = model.encode_prompts(PROMPTS)
    told.prompt_embeds.add_(by_hand(model, SOURCE, TARGET, "prompt_embeds"))
    expected = model.decode_latents(sample(model, inversion, told))
    torch.testing.assert_close(editor.edit(model, inversion, bare), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("option", ["source_sentences", "target_sentences"])
def test_a_bank_that_cannot_be_read_is_named_with_its_option(option: str, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.txt" for name in ("source_sentences", "target_sentences")}
    for path in files.values():
        path.write_text("a cat\n")
    bad = files[option]
    for content, problem in ((b"\n \n", "is empty"), (b"\xff\xfe\x00", "cannot be read as text")):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=rf"^Pix2PixZero: {option}: .*{bad.name} {problem}"):
            Pix2PixZero(**files)
    bad.unlink()
    with pytest.raises(InputError, match=rf"^Pix2PixZero: {option}: .*{bad.name} cannot be read"):
        Pix2PixZero(**files)


def test_words_to_replace_beside_banks_are_a_mistake(tmp_path: Path) -> None:
    bank = tmp_path / "cats.txt"
    bank.write_text("a cat\n")
    with pytest.raises(InputError, match=r"^Pix2PixZero: source_sentences and target_sentences leave replace no say"):
        Pix2PixZero({"cat": "dog"}, source_sentences=bank, target_sentences=bank)


@pytest.mark.parametrize("option", ["source_sentences", "target_sentences"])
def test_one_bank_without_the_other_is_a_mistake(option: str, tmp_path: Path) -> None:
    (tmp_path / "cats.txt").write_text("a cat\n")
    with pytest.raises(InputError, match=r"^Pix2PixZero: source_sentences and target_sentences go together"):
        Pix2PixZero(**{option: tmp_path / "cats.txt"})


# Mistakes and refusals


@pytest.mark.parametrize("templates", [[], ["a photo"], ["a {}", "the"]])
def test_templates_without_a_place_for_the_words_are_a_mistake(templates: list[str]) -> None:
    with pytest.raises(InputError, match=r"^Pix2PixZero: templates must be sentences with \{\} in them, got"):
        Pix2PixZero(templates=templates)


def test_the_templates_that_ship_have_one_place_each_and_are_all_different() -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES)
    assert len(set(TEMPLATES)) == len(TEMPLATES)


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf")])
def test_an_amount_that_cannot_be_is_named_with_the_editor(amount: float) -> None:
    with pytest.raises(InputError, match=r"^Pix2PixZero: cross_attention_guidance_amount must be 0 or more, got"):
        Pix2PixZero(cross_attention_guidance_amount=amount)


@pytest.mark.parametrize(
    ("prompt", "edit_prompt"), [("a cat", "a cat with a hat"), ("a cat with a hat", "a cat"), ("a cat", "a Cat")]
)
def test_a_prompt_of_which_no_word_gives_way_is_refused(prompt: str, edit_prompt: str) -> None:
    refusal = Pix2PixZero().refusal(EditRequest("a.png", prompt, edit_prompt))
    assert refusal is not None
    assert refusal.startswith(f"no word of the prompt {prompt!r} gives way to another in {edit_prompt!r}")


def test_an_image_without_a_prompt_to_go_to_is_refused_by_the_editors_own_name() -> None:
    bare = EditRequest("a.png", "a cat", None)
    assert Pix2PixZero().refusal(bare) == "the image has no edit_text and Pix2PixZero no words to replace"
    assert Pix2PixZero(replace={"dog": "cat"}).refusal(bare) == (
        "the prompt 'a cat' holds none of the words to replace: dog"
    )
    assert Pix2PixZero(replace={"cat": "dog"}).refusal(bare) is None


def test_it_needs_attention_and_below_full_strength_the_trajectory() -> None:
    assert Pix2PixZero().needs == {"attention"}
    assert Pix2PixZero(cross_attention_guidance_amount=0).needs == set(), "nothing is watched then"
    assert Pix2PixZero(strength=0.5).needs == {"attention", "trajectory"}
    assert PromptSwap().needs == set()
