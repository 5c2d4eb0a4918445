from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

import renoise
from renoise.errors import InputError, InputWarning
from renoise.models.loading import load_model, wrap_pipeline
from renoise.models.prompts import expand
from renoise.models.textual_inversion import DEFAULT_FILE, load_textual_inversions

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(name, key=shape, …)` writes a file of random vectors and returns its path."""

    def write(name: str, **shapes: tuple[int, ...]) -> str:
        generator = torch.Generator().manual_seed(0)
        tensors = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
        save_file(tensors, tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="module")
def loaded(tiny_sd: Path, tiny_sdxl: Path) -> dict[str, DiffusionPipeline]:
    return {path.name: DiffusionPipeline.from_pretrained(path, dtype=torch.float32) for path in (tiny_sd, tiny_sdxl)}


def with_own_text_model(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Returns a pipeline whose tokenizers and text encoders may be changed."""
    parts = {
        name: copy.deepcopy(part) if name.startswith(("text", "tokenizer")) else part
        for name, part in pipeline.components.items()
    }
    options = {"requires_safety_checker": False} if "safety_checker" in parts else {}
    return type(pipeline)(**parts, **options)


@pytest.fixture
def sd(loaded: dict[str, DiffusionPipeline]) -> DiffusionPipeline:
    return with_own_text_model(loaded["tiny-sd"])


@pytest.fixture
def sdxl(loaded: dict[str, DiffusionPipeline]) -> DiffusionPipeline:
    return with_own_text_model(loaded["tiny-sdxl"])


def vectors_of(pipeline: DiffusionPipeline, tokens: list[str], suffix: str = "") -> torch.Tensor:
    ids = getattr(pipeline, f"tokenizer{suffix}").convert_tokens_to_ids(tokens)
    vectors: torch.Tensor = getattr(pipeline, f"text_encoder{suffix}").get_input_embeddings().weight[ids]
    return vectors.detach()


@pytest.mark.parametrize(
    ("name", "key", "shape", "tokens"),
    [
        ("any.safetensors", "<toy>", (3, 96), ["<toy>", "<toy>_1", "<toy>_2"]),
        ("any.safetensors", "<toy>", (96,), ["<toy>"]),
        ("Bad-Hands.safetensors", "emb_params", (2, 96), ["Bad-Hands", "Bad-Hands_1"]),
    ],
)
def test_the_token_is_the_one_that_the_file_names_or_the_name_of_the_file(
    sd: DiffusionPipeline, write: Write, name: str, key: str, shape: tuple[int, ...], tokens: list[str]
) -> None:
    words = vectors_of(sd, ["cat</w>", "a</w>", "<|endoftext|>"])
    load_textual_inversions(sd, [write(name, **{key: shape})])
    expected = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(vectors_of(sd, tokens), torch.atleast_2d(expected))
    assert torch.equal(vectors_of(sd, ["cat</w>", "a</w>", "<|endoftext|>"]), words)
    written_out, _ = expand(sd.tokenizer, f"a {tokens[0]}")
    assert sd.tokenizer(written_out, add_special_tokens=False).input_ids[1:] == sd.tokenizer.convert_tokens_to_ids(
        tokens
    )


def test_sdxl_gets_vectors_for_both_text_encoders(sdxl: DiffusionPipeline, write: Write) -> None:
    load_textual_inversions(sdxl, [write("toy.safetensors", clip_g=(2, 48), clip_l=(2, 48))])
    generator = torch.Generator().manual_seed(0)
    for suffix in ("_2", ""):
        expected = torch.randn(2, 48, generator=generator)
        assert torch.equal(vectors_of(sdxl, ["toy", "toy_1"], suffix), expected)


def test_a_token_of_letters_is_not_found_inside_other_words(sd: DiffusionPipeline, write: Write) -> None:
    load_textual_inversions(
        sd, [write("toy.safetensors", emb_params=(2, 96)), write("b.safetensors", **{"<toy>": (96,)})]
    )
    toy = sd.tokenizer.convert_tokens_to_ids("toy")
    for prompt, count in {"a toy, toy-like": 2, "a toyota": 0, "a toy_1": 0, "a<toy>b": 0, "TOY.": 1}.items():
        assert sd.tokenizer(expand(sd.tokenizer, prompt)[0]).input_ids.count(toy) == count, prompt


REFUSED: dict[str, tuple[str, dict[str, tuple[int, ...]], str]] = {
    "width": (
        "sd",
        {"<toy>": (2, 768)},
        r"has a tensor of shape \[2, 768\], and text_encoder of this StableDiffusionPi",
    ),
    "axes": ("sd", {"<toy>": (1, 2, 96)}, r"has a tensor of shape \[1, 2, 96\]"),
    "SDXL in SD": (
        "sd",
        {"clip_l": (1, 96), "clip_g": (1, 48)},
        "is for a model with 2 text encoders, and this Stable",
    ),
    "SD in SDXL": ("sdxl", {"<toy>": (1, 96)}, "is for a model with 1 text encoder, and .* clip_l and clip_g"),
    "uneven": (
        "sdxl",
        {"clip_l": (1, 48), "clip_g": (2, 48)},
        "has a different number of vectors for each",
    ),
    "second width": ("sdxl", {"clip_l": (1, 48), "clip_g": (1, 96)}, r"has a tensor .* and text_encoder_2 of this"),
    "too many": ("sd", {"<toy>": (31, 96)}, "has 31 vectors, and a prompt has 1 to 30 tokens"),
    "none": ("sd", {"<toy>": (0, 96)}, "has 0 vectors"),
    "a word": ("sd", {"Cat": (1, 96)}, "has the token 'Cat', and the tokenizer has 'Cat' already; rename it"),
    "special": ("sd", {"<|endoftext|>": (1, 96)}, "has the token '<|endoftext|>', and the tokenizer has"),
    "a LoRA": (
        "sd",
        {"unet.a.lora_A.weight": (2, 3), "unet.a.lora_B.weight": (3, 2)},
        "is not a textual inversion: it has",
    ),
    "empty": ("sd", {}, "is not a textual inversion: it has 0 tensors"),
}


@pytest.mark.parametrize(("family", "shapes", "message"), REFUSED.values(), ids=list(REFUSED))
def test_a_file_that_does_not_fit_is_refused_in_one_line_and_changes_nothing(
    request: pytest.FixtureRequest, write: Write, family: str, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    pipeline = request.getfixturevalue(family)
    before = len(pipeline.tokenizer)
    with pytest.raises(
        InputError, match=rf"^textual_inversion: \S+\.safetensors {message.replace('|', '[|]')}"
    ) as caught:
        load_textual_inversions(pipeline, [write("file-1.safetensors", **shapes)])
    assert "\n" not in str(caught.value)
    assert len(pipeline.tokenizer) == before


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("<toy>", "<toy>", "<toy>"),
        ("<toy>", "<TOY>", "<TOY>"),
        ("<toy>_1", "<toy>", "<toy>_1"),
        ("<toy>_2", "<toy>", "<toy>_2"),
        ("<toy>", "<toy>_2", "a vector"),
    ],
)
def test_tokens_that_another_one_has_or_would_continue_are_refused(
    sd: DiffusionPipeline, write: Write, first: str, second: str, name: str
) -> None:
    files = [write("a.safetensors", **{first: (1, 96)}), write("b.safetensors", **{second: (2, 96)})]
    with pytest.raises(InputError, match=rf"b.safetensors has the token '{second}', .*{name}.*; rename it"):
        load_textual_inversions(sd, files)


def test_files_that_are_missing_damaged_or_pickles_are_named(
    sd: DiffusionPipeline, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "cut.safetensors").write_bytes(Path(write("a.safetensors", toy=(2, 96))).read_bytes()[:-9])
    save_file({"toy": torch.full((2, 96), torch.nan)}, tmp_path / "nan.safetensors")
    torch.save({"toy": torch.zeros(96)}, tmp_path / "toy.pt")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "none.safetensors": "must be a hub id, a folder or a .safetensors file; .* does not exist",
        "cut.safetensors": "cannot be loaded, the file is damaged",
        "nan.safetensors": "contains NaN or infinity, for example in toy",
        "toy.pt": "is not a .safetensors file, and only those are loaded; to convert .*docs/lora.md",
        "empty": f"has no {DEFAULT_FILE}",
    }.items():
        with pytest.raises(InputError, match=rf"^textual_inversion\S* .*{message}"):
            load_textual_inversions(sd, [str(tmp_path / name)])


@pytest.fixture
def old_sdxl(sdxl: DiffusionPipeline) -> DiffusionPipeline:
    """SDXL with the end token that its published configuration has."""
    sdxl.text_encoder_2.text_model.eos_token_id = 2
    return sdxl


@torch.no_grad()
def test_sdxl_pools_at_the_end_of_the_prompt_and_not_at_the_textual_inversion(
    old_sdxl: DiffusionPipeline, write: Write
) -> None:
    plain: Any = wrap_pipeline(old_sdxl).encode_prompts(["a cat"]).pooled_prompt_embeds
    load_textual_inversions(old_sdxl, [write("toy.safetensors", clip_l=(2, 48), clip_g=(2, 48))])
    model = wrap_pipeline(old_sdxl)
    torch.testing.assert_close(model.encode_prompts(["a cat"]).pooled_prompt_embeds, plain)
    found: Any = model.encode_prompts(["a toy on grass"]).pooled_prompt_embeds
    inputs = old_sdxl.tokenizer_2("a toy toy_1 on grass", padding="max_length", return_tensors="pt")
    end = inputs.input_ids[0].tolist().index(old_sdxl.tokenizer_2.eos_token_id)
    states = old_sdxl.text_encoder_2.text_model(inputs.input_ids).last_hidden_state
    torch.testing.assert_close(found[0], old_sdxl.text_encoder_2.text_projection(states[0, end]))


def test_a_pipeline_in_memory_that_pools_at_the_textual_inversion_is_warned_of(old_sdxl: DiffusionPipeline) -> None:
    wrap_pipeline(old_sdxl)  # no warning without a textual inversion
    for suffix in ("", "_2"):
        tokenizer, encoder = getattr(old_sdxl, f"tokenizer{suffix}"), getattr(old_sdxl, f"text_encoder{suffix}")
        old_sdxl.load_textual_inversion(torch.zeros(1, 48), "<toy>", tokenizer, encoder)
    with pytest.warns(InputWarning, match=r"^checkpoint: text_encoder_2 takes .* has eos_token_id 2; set it to 614"):
        wrap_pipeline(old_sdxl)
    assert old_sdxl.text_encoder_2.text_model.eos_token_id == 2, "the caller's pipeline stays as it is"


def test_load_takes_a_list_and_the_settings_and_saved_inversions_name_it(
    tiny_sd: Path, write: Write, tmp_path: Path
) -> None:
    shutil.copy(write("toy.safetensors", **{"<toy>": (3, 96)}), tmp_path / DEFAULT_FILE)
    pipeline = renoise.load(tiny_sd, textual_inversion=[str(tmp_path)], num_inference_steps=1)
    assert pipeline.settings["textual_inversion"] == [str(tmp_path.resolve())]
    images = pipeline.invert("data/images/scenes/00-cat.png", "a <toy> on grass")
    images.save(tmp_path / "cat.safetensors")
    again = renoise.load_inversion(tmp_path / "cat.safetensors")
    found, expected = again.inversion.conditioning.prompt_embeds, images.inversion.conditioning.prompt_embeds
    torch.testing.assert_close(found, expected)
    plain = load_model(str(tiny_sd)).encode_prompts(["a <toy> on grass"]).prompt_embeds
    assert not torch.allclose(found, plain)


def test_load_refuses_a_single_name_and_a_pipeline_in_memory(sd: DiffusionPipeline, tiny_sd: Path) -> None:
    with pytest.raises(InputError, match=r"^textual_inversion must be a list, got 'toy.safetensors'$"):
        renoise.load(tiny_sd, textual_inversion="toy.safetensors")
    with pytest.raises(InputError, match=r"^textual_inversion must be left out with a pipeline in memory"):
        renoise.load(sd, textual_inversion=["toy.safetensors"])
