from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from renoise.errors import InputError, InputWarning
from renoise.models.loading import load_model
from renoise.models.lora import DEFAULT_FILE, _scale, merge_lora
from renoise.models.lora_names import layers_by_name, parse_key

RANKS = (2, 3, 4)
ALPHAS = (1.0, 4.0, 2.5)
"""Of the first, second, third layer, and so on again from the first: neither is the same for all layers."""
PARTS = ("unet", "text_encoder", "text_encoder_2")
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def lora(tiny_sd: Path) -> Path:
    """The shipped LoRA for tiny-sd."""
    return tiny_sd.parent / "tiny-lcm-lora"


@pytest.fixture(scope="module")
def loaded(tiny_sd: Path, tiny_sdxl: Path) -> dict[str, DiffusionPipeline]:
    kinds: dict[str, Any] = {"sd": (StableDiffusionPipeline, tiny_sd), "sdxl": (StableDiffusionXLPipeline, tiny_sdxl)}
    return {name: kind.from_pretrained(path, dtype=torch.float32) for name, (kind, path) in kinds.items()}


@pytest.fixture
def pipelines(loaded: dict[str, DiffusionPipeline]) -> Iterator[dict[str, DiffusionPipeline]]:
    """A pipeline of each family. Their weights are put back after the test."""
    networks = [network for pipeline in loaded.values() for part in PARTS if (network := getattr(pipeline, part, None))]
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in networks]
    yield loaded
    for network, state in zip(networks, before, strict=True):
        network.load_state_dict(state)


def layers_of(pipeline: DiffusionPipeline) -> list[tuple[str, str, torch.Tensor]]:
    """The part, path and weight of every layer that a LoRA may have an update of."""
    return [
        (part, path, layer.weight)
        for part in PARTS
        if getattr(pipeline, part, None) is not None
        for path, layer in getattr(pipeline, part).named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]


def kohya(part: str, path: str) -> dict[str, str]:
    """Names of kohya's trainer: dots are underscores, and the text encoders are te or te1 and te2."""
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_", "text_encoder_2": "lora_te2_"}[part]
    name = prefix + path.replace(".", "_")
    return {"down": f"{name}.lora_down.weight", "up": f"{name}.lora_up.weight", "alpha": f"{name}.alpha"}


def peft(part: str, path: str) -> dict[str, str]:
    return {"down": f"{part}.{path}.lora_A.weight", "up": f"{part}.{path}.lora_B.weight"}


def diffusers(part: str, path: str) -> dict[str, str]:
    """Names of diffusers before peft."""
    kind = "lora" if part == "unet" else "lora_linear_layer"
    prefix = "" if part == "unet" or path.startswith("text_model") else "text_model."
    return {each: f"{part}.{prefix}{path}.{kind}.{each}.weight" for each in ("down", "up")}


def old_diffusers(part: str, path: str) -> dict[str, str]:
    """Names of diffusers' first LoRAs: those of attention processors."""
    attention = re.fullmatch(r"(.*\.(attn\d|self_attn))\.(to_)?(q|k|v|out)(_proj)?(\.0)?", path)
    if attention is None:
        return diffusers(part, path)
    owner = attention[1] + (".processor" if part == "unet" else "")
    return {each: f"{part}.{owner}.to_{attention[4]}_lora.{each}.weight" for each in ("down", "up")}


FORMS = {"kohya": kohya, "peft": peft, "diffusers": diffusers, "old_diffusers": old_diffusers}


def random_update(weight: torch.Tensor, rank: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    down = torch.randn(rank, *weight.shape[1:], generator=generator)
    up = torch.randn(len(weight), rank, *[1] * (weight.ndim - 2), generator=generator)
    return down, up


def update_by_hand(down: torch.Tensor, up: torch.Tensor, alpha: float) -> torch.Tensor:
    """α/r · B A, for convolutions as the convolution by A and then by B."""
    if down.ndim == 2:
        return alpha / len(down) * up @ down
    return alpha / len(down) * torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("form", FORMS)
def test_the_merged_weights_are_w_plus_alpha_by_r_times_b_a_in_every_layer(
    pipelines: dict[str, DiffusionPipeline], form: str, family: str, tmp_path: Path
) -> None:
    pipeline, generator = pipelines[family], torch.Generator().manual_seed(0)
    file: Tensors = {}
    expected = {}
    for index, (part, path, weight) in enumerate(layers_of(pipeline)):
        keys = FORMS[form](part, path)
        down, up = random_update(weight, RANKS[index % 3], generator)
        alpha = ALPHAS[index % 3] if "alpha" in keys else float(len(down))
        tensors = {"down": down, "up": up, "alpha": torch.tensor(alpha)}
        file |= {key: tensors[kind] for kind, key in keys.items()}
        expected[part, path] = weight.detach() + update_by_hand(down, up, alpha)
    save_file(file, tmp_path / "lora.safetensors")
    merge_lora(pipeline, str(tmp_path / "lora.safetensors"))
    for part, path, weight in layers_of(pipeline):
        torch.testing.assert_close(weight.detach(), expected[part, path], msg=f"{part}.{path}")
    assert len(expected) > 80


def test_alpha_of_pefts_configuration_applies_by_its_patterns_and_rank_stabilization(
    pipelines: dict[str, DiffusionPipeline], tmp_path: Path
) -> None:
    pipeline = pipelines["sdxl"]
    plain = {path: weight.detach().clone() for part, path, weight in layers_of(pipeline) if part == "unet"}
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_q", "to_k"],
        alpha_pattern={"attn1.to_q": 2.0},
        use_rslora=True,
        init_lora_weights=False,
    )
    pipeline.unet.add_adapter(config)
    weights = get_peft_model_state_dict(pipeline.unet)
    pipeline.unet.delete_adapters("default")
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, weights, unet_lora_adapter_metadata=config.to_dict())
    pipeline.unload_lora_weights()
    merge_lora(pipeline, str(tmp_path))
    for path, before in plain.items():
        update = torch.zeros_like(before)
        if path.endswith(("to_q", "to_k")):
            alpha = 2.0 if path.endswith("attn1.to_q") else 8.0
            update = alpha / 4**0.5 * weights[f"{path}.lora_B.weight"] @ weights[f"{path}.lora_A.weight"]
        torch.testing.assert_close(pipeline.unet.get_submodule(path).weight.detach(), before + update)


def test_a_dora_of_peft_scales_each_output_to_its_magnitude(
    pipelines: dict[str, DiffusionPipeline], tmp_path: Path
) -> None:
    pipeline, generator = pipelines["sd"], torch.Generator().manual_seed(0)
    file: Tensors = {}
    expected = {}
    for part, path, weight in layers_of(pipeline):
        down, up = random_update(weight, 2, generator)
        magnitude = torch.rand(len(weight), generator=generator) + 0.5
        keys = peft(part, path)
        shape = (1, -1, 1, 1) if weight.ndim == 4 else (-1,)  # as peft keeps it
        file |= {keys["down"]: down, keys["up"]: up}
        file[f"{part}.{path}.lora_magnitude_vector.weight"] = magnitude.reshape(shape).contiguous()
        rows = (weight.detach() + update_by_hand(down, up, 2.0)).flatten(1)
        scaled = torch.stack([m * row / row.norm() for m, row in zip(magnitude, rows, strict=True)])
        expected[part, path] = scaled.reshape(weight.shape)
    save_file(file, tmp_path / "dora.safetensors")
    merge_lora(pipeline, str(tmp_path / "dora.safetensors"))
    for part, path, weight in layers_of(pipeline):
        torch.testing.assert_close(weight.detach(), expected[part, path], msg=f"{part}.{path}")


def test_the_names_of_stability_ais_unet_mean_the_layers_that_diffusers_gives_them_to() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
        )  # the blocks and names of SDXL
    paths = layers_by_name(unet)
    names = [name for name in paths if name.startswith(("input_blocks", "middle_block", "output_blocks", "out_"))]
    file = {
        f"lora_unet_{name}.lora_{half}.weight": torch.tensor([index])
        for index, name in enumerate(names)
        for half in ("down", "up")
    }
    converted, _ = StableDiffusionXLPipeline.lora_state_dict(file, unet_config=unet.config)
    for key, index in converted.items():
        parsed = parse_key(key)
        assert parsed is not None
        assert paths[parsed[1]] == paths[names[int(index)]], key
    assert len(converted) == 2 * len(names) > 200
    known = {
        "input_blocks_4_1_transformer_blocks_1_ff_net_2": "down_blocks.1.attentions.0.transformer_blocks.1.ff.net.2",
        "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
        "middle_block_1_proj_in": "mid_block.attentions.0.proj_in",
        "output_blocks_5_1_proj_out": "up_blocks.1.attentions.2.proj_out",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    }  # from a published LoRA
    assert {name: paths[name] for name in known} == known


def test_merging_gives_the_network_that_diffusers_runs_with_the_lora_beside_it(tiny_sd: Path, lora: Path) -> None:
    reference = StableDiffusionPipeline.from_pretrained(tiny_sd)
    reference.load_lora_weights(str(lora))
    model = load_model(str(tiny_sd), str(lora))
    plain = load_model(str(tiny_sd))
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    embeds = model.encode_prompts(["a cat", "a dog"]).prompt_embeds
    with torch.no_grad():
        expected, found, without = (
            unet(latents, 499, encoder_hidden_states=embeds).sample
            for unet in (reference.unet, model.network, plain.network)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - without).abs().max() > 0.01


def test_merging_leaves_the_networks_layers_as_they_were(tiny_sd: Path, lora: Path) -> None:
    merged, plain = load_model(str(tiny_sd), str(lora)), load_model(str(tiny_sd))
    assert [name for name, _ in merged.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.modules()]


def test_a_lora_for_sdxl_is_merged_too(tiny_sdxl: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(pipeline.unet))
    merged, plain = load_model(str(tiny_sdxl), str(tmp_path)), load_model(str(tiny_sdxl))
    changed = {
        name.rsplit(".", 2)[-2]
        for (name, before), after in zip(plain.network.named_parameters(), merged.network.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert changed == {"to_q"}


def test_a_lora_can_be_given_as_a_file(tiny_sd: Path, lora: Path, tmp_path: Path) -> None:
    shutil.copy(lora / DEFAULT_FILE, tmp_path / "mine.safetensors")
    by_file = load_model(str(tiny_sd), str(tmp_path / "mine.safetensors"))
    by_folder = load_model(str(tiny_sd), str(lora))
    for found, expected in zip(by_file.parameters(), by_folder.parameters(), strict=True):
        assert torch.equal(found, expected)


def renamed(weights: Tensors) -> Tensors:
    return {name.replace("unet.", "unet.elsewhere."): tensor for name, tensor in weights.items()}


def of_another_part(weights: Tensors) -> Tensors:
    return {name.replace("unet.", "transformer."): tensor for name, tensor in weights.items()}


def of_another_width(weights: Tensors) -> Tensors:
    return weights | {name: torch.cat([tensor, tensor]) for name, tensor in weights.items() if "lora_B" in name}


def without_lora_in_its_names(weights: Tensors) -> Tensors:
    return {"unet.conv_in.weight": torch.zeros(1)}


def of_peft_itself(weights: Tensors) -> Tensors:
    return {name.replace("unet.", "base_model.model."): tensor for name, tensor in weights.items()}


def with_another_key(end: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: weights | {f"lora_unet_conv_in.{end}": torch.ones(1)}


def without_half_of_a_layer(weights: Tensors) -> Tensors:
    return dict(list(weights.items())[1:])


def under_two_names(weights: Tensors) -> Tensors:
    halves = {"lora_A": "lora_down", "lora_B": "lora_up"}
    first = {name: tensor for name, tensor in weights.items() if ".conv1." in name}
    return weights | {
        name.replace("unet.", "lora_unet_").replace(half, halves[half]): tensor.clone()
        for name, tensor in first.items()
        for half in halves
        if half in name
    }


def with_nan(weights: Tensors) -> Tensors:
    name = next(iter(weights))
    return weights | {name: weights[name] * float("nan")}


REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "renamed": (renamed, r"matches no layer of this StableDiffusionPipeline; .*unet\.elsewhere\."),
    "another part": (of_another_part, r"matches no layer of this StableDiffusionPipeline; .*transformer\."),
    "another width": (
        of_another_width,
        r"cannot be loaded into this StableDiffusionPipeline: unet\.\S+ has a weight of \[",
    ),
    "no LoRA": (without_lora_in_its_names, r"has 1 keys that are not those of a LoRA: unet\.conv_in\.weight"),
    "bare peft": (of_peft_itself, r"is a PEFT adapter"),
    "half a layer": (without_half_of_a_layer, r"lacks a matrix of the layers with these keys: unet\."),
    "two names": (under_two_names, r"has two updates of one layer: lora_unet_\S+ and unet\."),
    "NaN": (with_nan, r"contains NaN or infinity, for example in unet\."),
    "DoRA": (with_another_key("dora_scale"), r"is a DoRA in LyCORIS form, which is not supported: .*dora_scale"),
    "LoHa": (with_another_key("hada_w1_a"), r"is a LoHa of LyCORIS, which is not supported: .*hada_w1_a"),
    "LoKr": (with_another_key("lokr_w2"), r"is a LoKr of LyCORIS, which is not supported"),
    "IA3": (with_another_key("on_input"), r"is an \(IA\)³ of LyCORIS, which is not supported"),
    "GLoRA": (with_another_key("b2.weight"), r"is a GLoRA of LyCORIS, which is not supported"),
    "OFT": (with_another_key("oft_blocks"), r"is an OFT or BOFT, which is not supported"),
    "Tucker": (with_another_key("lora_mid.weight"), r"is a LoCon of LyCORIS with Tucker decomposition"),
    "scalar": (with_another_key("scalar"), r"is a LoRA of LyCORIS with trained norms or scalars"),
    "full": (with_another_key("diff_b"), r"is a full difference of weights, which is not supported"),
    "bias": (
        with_another_key("lora_B.bias"),
        r"has 1 keys that are not those of a LoRA: lora_unet_conv_in\.lora_B\.bias",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_no_lora_for_the_model_is_refused_in_one_short_line_and_changes_nothing(
    pipelines: dict[str, DiffusionPipeline],
    lora: Path,
    tmp_path: Path,
    change: Callable[[Tensors], Tensors],
    message: str,
) -> None:
    before = {key: weight.clone() for *key, weight in layers_of(pipelines["sd"]) for key in [tuple(key)]}
    weights = change(load_file(lora / DEFAULT_FILE))
    save_file({name: each.contiguous() for name, each in weights.items()}, tmp_path / DEFAULT_FILE)
    with pytest.raises(InputError, match=rf"^lora: \S+ {message}") as caught:
        merge_lora(pipelines["sd"], str(tmp_path))
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
    assert all(torch.equal(weight, before[part, path]) for part, path, weight in layers_of(pipelines["sd"]))


def test_every_layer_that_the_model_does_not_have_is_named_in_a_warning(
    pipelines: dict[str, DiffusionPipeline], lora: Path, tmp_path: Path
) -> None:
    weights = load_file(lora / DEFAULT_FILE)
    extra = {
        name.replace("attentions.0", "attentions.7"): tensor
        for name, tensor in weights.items()
        if "mid_block.attentions.0.proj_in" in name
    }
    second = {f"lora_te2_text_projection.lora_{half}.weight": torch.zeros(2, 2) for half in ("down", "up")}
    save_file({name: each.clone() for name, each in (weights | extra | second).items()}, tmp_path / DEFAULT_FILE)
    before = pipelines["sd"].unet.mid_block.attentions[0].proj_in.weight.clone()
    with pytest.warns(InputWarning) as caught:
        merge_lora(pipelines["sd"], str(tmp_path))
    absent = "lora_te2_text_projection.lora_down.weight, unet.mid_block.attentions.7.proj_in.lora_A.weight"
    count = f"2 of its {len(weights) // 2 + 2} layers"
    assert [str(each.message) for each in caught] == [
        f"lora: {tmp_path}: {count} do not exist in this StableDiffusionPipeline and are left out: {absent}"
    ]
    assert not torch.equal(pipelines["sd"].unet.mid_block.attentions[0].proj_in.weight, before), "the rest is merged"


def test_a_lora_that_changes_the_model_when_its_training_begins_is_refused(
    pipelines: dict[str, DiffusionPipeline], lora: Path, tmp_path: Path
) -> None:
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.init_lora_weights": "pissa"})}
    save_file(load_file(lora / DEFAULT_FILE), tmp_path / DEFAULT_FILE, metadata)
    with pytest.raises(InputError, match=r"^lora: \S+ was trained with unet.init_lora_weights pissa"):
        merge_lora(pipelines["sd"], str(tmp_path))


def test_weights_in_half_precision_keep_their_type_and_are_rounded_once(
    pipelines: dict[str, DiffusionPipeline], tmp_path: Path
) -> None:
    unet = pipelines["sd"].unet
    weight, generator = unet.conv_in.weight.detach().clone(), torch.Generator().manual_seed(0)
    down, up = (each.half() for each in random_update(weight, 2, generator))
    keys = peft("unet", "conv_in")
    save_file({keys["down"]: down, keys["up"]: up}, tmp_path / DEFAULT_FILE)
    unet.to(torch.bfloat16)
    try:
        merge_lora(pipelines["sd"], str(tmp_path))
        expected = weight.bfloat16().float() + update_by_hand(down.float(), up.float(), 2.0)
        assert torch.equal(unet.conv_in.weight, expected.bfloat16())
    finally:
        unet.to(torch.float32)


def test_a_damaged_lora_is_named(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / DEFAULT_FILE).write_bytes(b"123")
    with pytest.raises(InputError, match=r"^lora: \S+ cannot be loaded, the file is damaged: .*header too small"):
        load_model(str(tiny_sd), str(tmp_path))


@pytest.mark.parametrize("name", ["", "pytorch_lora_weights.bin"])
def test_a_pickled_lora_is_refused_with_what_to_do(
    pipelines: dict[str, DiffusionPipeline], tmp_path: Path, name: str
) -> None:
    torch.save({"unet.lora_A": torch.zeros(1)}, tmp_path / "pytorch_lora_weights.bin")
    expected = "is not a .safetensors file.* convert" if name else f"has no {DEFAULT_FILE}"
    with pytest.raises(InputError, match=rf"^lora: \S+ {expected}"):
        merge_lora(pipelines["sd"], str(tmp_path / name))


def test_a_folder_without_the_usual_name_says_which_files_it_has(
    pipelines: dict[str, DiffusionPipeline], lora: Path, tmp_path: Path
) -> None:
    shutil.copy(lora / DEFAULT_FILE, tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match=rf"has no {DEFAULT_FILE}; name a file in it, such as mine\.safetensors"):
        merge_lora(pipelines["sd"], str(tmp_path))


@pytest.mark.parametrize(
    "name", ["/nowhere/at/all", "lora.bin", "/nowhere/mine.safetensors", "folder/mine.safetensors"]
)
def test_a_lora_that_does_not_exist_is_refused_with_the_forms_that_are_allowed(
    pipelines: dict[str, DiffusionPipeline], name: str
) -> None:
    with pytest.raises(
        InputError, match=r"lora must be a hub id, a folder or a \.safetensors file; \S+ does not exist"
    ):
        merge_lora(pipelines["sd"], name)


@pytest.mark.parametrize(
    ("source", "repository", "name"),
    [
        ("someone/style", "someone/style", DEFAULT_FILE),
        ("someone/style/a.safetensors", "someone/style", "a.safetensors"),
        ("someone/style/v2/a.safetensors", "someone/style", "v2/a.safetensors"),
    ],
)
def test_a_lora_on_the_hub_is_downloaded(
    pipelines: dict[str, DiffusionPipeline],
    lora: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    repository: str,
    name: str,
) -> None:
    asked = []

    def download(*arguments: str, local_files_only: bool) -> str:
        assert not local_files_only
        asked.append(arguments)
        return str(lora / DEFAULT_FILE)

    monkeypatch.setattr("renoise.models.weight_files.check_hub", lambda *_: False)
    monkeypatch.setattr("renoise.models.weight_files.hf_hub_download", download)
    merge_lora(pipelines["sd"], source)
    assert asked == [(repository, name)]


@pytest.mark.parametrize("level", ["", "text_model."])
@pytest.mark.parametrize("path_level", ["", "text_model."])
def test_alphas_of_pefts_configuration_apply_with_and_without_the_level_that_transformers_5_left_out(
    level: str, path_level: str
) -> None:
    layer = "encoder.layers.0.self_attn.q_proj"
    config = {"text_encoder.alpha_pattern": {f"{level}{layer}": 2.0}, "text_encoder.lora_alpha": 8.0}
    tensors = {"down": torch.zeros(4, 8)}
    assert _scale(tensors, "text_encoder", f"{path_level}{layer}", config) == 0.5
