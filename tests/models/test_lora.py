from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from renoise.errors import InputError, InputWarning
from renoise.models.loading import load_model
from renoise.models.lora import DEFAULT_FILE


@pytest.fixture(scope="module")
def lora(tiny_sd: Path) -> Path:
    """The shipped LoRA for tiny-sd."""
    return tiny_sd.parent / "tiny-lcm-lora"


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


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("unet.", "unet.elsewhere."): tensor for name, tensor in weights.items()}


def of_another_part(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("unet.", "transformer."): tensor for name, tensor in weights.items()}


def of_another_width(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    wider = {name: torch.cat([tensor, tensor]) for name, tensor in weights.items() if "lora_B" in name}
    return weights | wider


def without_lora_in_its_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"unet.conv_in.weight": torch.zeros(1)}


@pytest.mark.parametrize("change", [renamed, of_another_part, of_another_width, without_lora_in_its_names])
def test_a_lora_that_fits_no_layer_is_refused_in_one_short_line(
    tiny_sd: Path, lora: Path, tmp_path: Path, change: object, capfd: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    save_file(
        {name: each.contiguous() for name, each in change(load_file(lora / DEFAULT_FILE)).items()},
        tmp_path / DEFAULT_FILE,
    )
    with pytest.raises(
        InputError, match=r"^lora: \S+ (matches no layer of|cannot be loaded into) this Stable"
    ) as caught:
        load_model(str(tiny_sd), str(tmp_path))
    assert len(str(caught.value)) < 500, "diffusers lists every layer"
    assert "\n" not in str(caught.value)
    assert "size mismatch" not in capfd.readouterr().err


def test_a_lora_that_fits_in_part_is_merged_with_a_warning_about_the_rest(
    tiny_sd: Path, lora: Path, tmp_path: Path
) -> None:
    weights = load_file(lora / DEFAULT_FILE)
    layer = next(name for name in weights if name.endswith("to_q.lora_A.weight"))
    extra = {layer.replace("lora_A", kind): weights[layer.replace("lora_A", kind)] for kind in ("lora_A", "lora_B")}
    moved = {name.replace("attentions.0", "attentions.7"): tensor for name, tensor in extra.items()}
    save_file({name: each.clone() for name, each in (weights | moved).items()}, tmp_path / DEFAULT_FILE)
    with pytest.warns(InputWarning, match=r"lora: .*unexpected keys.*attentions\.7"):
        load_model(str(tiny_sd), str(tmp_path))


def test_a_damaged_lora_is_named(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / DEFAULT_FILE).write_bytes(b"123")
    with pytest.raises(InputError, match=r"lora: \S+ cannot be loaded .*header too small"):
        load_model(str(tiny_sd), str(tmp_path))


def test_a_pickled_lora_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    torch.save({"unet.lora_A": torch.zeros(1)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(InputError, match=r"lora"):
        load_model(str(tiny_sd), str(tmp_path))


@pytest.mark.parametrize("name", ["/nowhere/at/all", "lora.bin", "/nowhere/mine.safetensors"])
def test_a_lora_that_does_not_exist_is_refused_with_the_forms_that_are_allowed(tiny_sd: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=r"lora must be a hub id, a folder or a \.safetensors file; \S+ does not exist"
    ):
        load_model(str(tiny_sd), name)
