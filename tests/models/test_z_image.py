from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.models.normalization import RMSNorm
from helpers import flow_sampling as sampling
from helpers.flow_sampling import STEPS
from helpers.z_image import random_pipeline
from renoise_plugins.prompt_to_prompt import PromptToPrompt
from torch import nn

import renoise
from renoise.core.schedule import Schedule
from renoise.editing.runner import check_needs
from renoise.errors import InputError
from renoise.inversion.sampling import sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model, wrap_pipeline
from renoise.models.z_image import ZImage

PROMPTS = ["a cat", "a dog on a dotted blue background", "an owl at night"]
"""With the chat template, the second has more than 32 tokens more: the network pads to multiples of 32."""
our_latents = partial(sampling.our_latents, prompts=PROMPTS)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return wrap_pipeline(random_pipeline())


def noise(batch: int = 2, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(0))


def own_latents(
    pipeline: ZImagePipeline, start: torch.Tensor, guidance_scale: float, negatives: list[str] | None = None
) -> torch.Tensor:
    height, width = (side * pipeline.vae_scale_factor for side in start.shape[-2:])
    latents: torch.Tensor = pipeline(
        list(PROMPTS[: len(start)]),
        height=height,
        width=width,
        latents=start.clone(),
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale - 1,
        negative_prompt=negatives and list(negatives),  # the pipeline changes the list
        output_type="latent",
    ).images
    return latents


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (2, 8, 8), (3, 4, 10)])
def test_sampling_equals_the_pipelines_own_bit_for_bit(
    model: DiffusionModel, batch: int, height: int, width: int, guidance_scale: float
) -> None:
    start = noise(batch, height, width)
    expected = own_latents(model.pipeline, start, guidance_scale)
    assert torch.equal(our_latents(model, start, guidance_scale), expected)


def test_a_shift_that_depends_on_the_size_is_the_pipelines_bit_for_bit() -> None:
    pipeline = random_pipeline()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    dynamic, start = wrap_pipeline(pipeline), noise(2, 4, 10)
    latents = our_latents(dynamic, start, 1.0)
    assert torch.equal(latents, own_latents(pipeline, start, 1.0))
    assert not torch.equal(latents, our_latents(dynamic, start, 1.0, size=(8, 8)))


def test_negative_prompts_of_different_lengths_are_the_pipelines_bit_for_bit(model: DiffusionModel) -> None:
    negatives = ["blurry and gray and full of noise", "dark"]
    expected = own_latents(model.pipeline, noise(), 3.0, negatives)
    assert torch.equal(our_latents(model, noise(), 3.0, negatives), expected)
    assert (expected - own_latents(model.pipeline, noise(), 3.0)).abs().max() > 1e-3


def test_the_loaded_schedule_is_the_pipelines() -> None:
    loaded = renoise.load(random_pipeline(), num_inference_steps=STEPS)
    own_latents(loaded.model.pipeline, noise(), 1.0)
    assert [step.timestep for step in loaded.schedule] == loaded.scheduler.timesteps.tolist()


@torch.no_grad()
def test_an_image_does_not_depend_on_the_others_in_its_batch(model: DiffusionModel) -> None:
    conditioning = model.encode_prompts(PROMPTS, 3.0, ["dark", "", "blurry and gray and full of noise"])
    start = noise(3)
    together = model.predict(start, 500, conditioning)
    for index in range(3):
        alone = conditioning.select(torch.tensor([index]))
        torch.testing.assert_close(model.predict(start[index : index + 1], 500, alone)[0], together[index])
        own = model.encode_prompts([PROMPTS[index]]).prompt_embeds[0]
        mask = conditioning.prompt_mask
        assert mask is not None
        torch.testing.assert_close(conditioning.prompt_embeds[index][mask[index]], own)
    padded = conditioning.prompt_embeds.where(conditioning.prompt_mask[..., None], 100.0)
    spoiled = renoise.Conditioning(**vars(conditioning) | {"prompt_embeds": padded})
    assert torch.equal(model.predict(start, 500, spoiled), together)


class Changed(nn.Module):
    """A transformer with a mistake."""

    def __init__(self, network: nn.Module, mistake: str) -> None:
        super().__init__()
        self.network = network
        self.mistake = mistake

    def forward(self, latents: list[torch.Tensor], time: torch.Tensor, **inputs: object) -> tuple[list[torch.Tensor]]:
        time = 1000 * time if self.mistake == "lost /1000" else time
        output = self.network(latents, time, **inputs)[0]
        return ([-image for image in output] if self.mistake == "flipped sign" else output,)


@pytest.mark.parametrize("mistake", ["flipped sign", "lost /1000", "lost shift", "lost sigmas", "guidance off by one"])
def test_the_comparison_finds_a_mistake(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap_pipeline(random_pipeline())
    start = noise()
    expected = own_latents(model.pipeline, start, 3.0)
    assert torch.equal(our_latents(model, start, 3.0), expected)
    if mistake == "lost shift":
        model.pipeline.scheduler = random_pipeline(shift=1.0).scheduler
    elif mistake == "lost sigmas":
        monkeypatch.setattr(ZImage, "timestep_options", DiffusionModel.timestep_options)
    elif mistake == "guidance off by one":
        right = ZImage.guide
        monkeypatch.setattr(ZImage, "guide", lambda self, predictions, scale: right(self, predictions, scale + 1))
    else:
        model.network = Changed(model.network, mistake)
    assert (our_latents(model, start, 3.0) - expected).abs().max() > 1e-3


def test_the_guidance_scale_means_what_it_means_in_other_families(model: DiffusionModel) -> None:
    predictions = list(noise(2).split(1))
    for scale in (1.0, 1.5, 4.0):
        torch.testing.assert_close(model.guide(predictions, scale), renoise.guide(predictions, scale))
    assert model.guide(predictions[:1], 1.0) is predictions[0]
    assert model.encode_prompts(PROMPTS, 0.0).negative_prompt_embeds is None


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_inversion_and_back_is_exact_in_float64(guidance_scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    to_float = torch.Tensor.float
    keep = lambda tensor: tensor if tensor.dtype == torch.float64 else to_float(tensor)  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "float", keep)  # the network computes positions and norms in float32
    exact = lambda norm, states: states * torch.rsqrt(states.square().mean(-1, keepdim=True) + norm.eps) * norm.weight  # noqa: E731
    monkeypatch.setattr(RMSNorm, "forward", exact)
    pipeline = random_pipeline()
    for weight in pipeline.transformer.all_final_layer.parameters():
        weight.data *= 0.1  # the last step starts at σ = 0.5, where plain renoising of the larger weights diverges
    pipeline.to(dtype=torch.float64)
    inversion = renoise.ReNoise(iterations=30, tolerance=1e-12, warm_start=True)
    loaded = renoise.load(pipeline, num_inference_steps=3, guidance_scale=guidance_scale, inversion=inversion)
    latents = noise().double()
    conditioning = loaded.model.encode_prompts(PROMPTS[:2], guidance_scale)
    inverted = loaded.invert_latents(latents, conditioning, names=["a", "b"])
    assert (inverted.latents - latents).std() > 0.03
    assert (sample(loaded.model, inverted) - latents).abs().max() <= 1e-8


@torch.no_grad()
def test_images_are_shifted_and_scaled_as_in_the_pipeline(model: DiffusionModel) -> None:
    pipeline = model.pipeline
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    latents = model.encode_images(images)
    torch.testing.assert_close(latents, (pipeline.vae.encode(2 * images - 1).latent_dist.mean - 0.3) * 1.5)
    own = pipeline.image_processor.postprocess(pipeline.vae.decode(latents / 1.5 + 0.3).sample, output_type="pt")
    assert torch.equal(model.decode_latents(latents), own)


@torch.no_grad()
@pytest.mark.parametrize("length", [3, 490, 600])
def test_a_prompt_is_cut_where_the_pipeline_cuts_it(model: DiffusionModel, length: int) -> None:
    prompt = "abcdefghij" * (length // 10) + "x" * (length % 10)
    own = model.pipeline.encode_prompt([prompt], do_classifier_free_guidance=False)[0][0]
    assert torch.equal(model.encode_prompts([prompt]).prompt_embeds[0], own)
    kept, rest = model.split_prompt(prompt)
    begin = len("<user\n")  # a token for the start, and one for each letter
    assert kept + rest == prompt
    assert len(kept) == min(length, 512 - begin)
    assert model.token_spans(prompt) == [(index, index + 1) for index in range(len(kept))]


def test_a_folder_is_loaded_in_bfloat16_and_inverted_and_edited(tmp_path: Path) -> None:
    random_pipeline().save_pretrained(tmp_path)
    loaded = renoise.load(tmp_path, num_inference_steps=STEPS, dtype=torch.bfloat16)
    assert loaded.model.dtype == torch.bfloat16
    inverted = loaded.invert(torch.rand(1, 3, 16, 16), "a cat")
    assert inverted.inversion.latents.dtype == torch.float32
    assert inverted.inversion.latents.isfinite().all()
    assert len(inverted.edit("a dog", guidance_scale=3.0)) == 1


@torch.no_grad()
def test_a_lora_is_merged_as_diffusers_applies_it(tmp_path: Path) -> None:
    pipeline = random_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    generator = torch.Generator().manual_seed(1)
    layers = {
        "layers.0.attention.to_q.lora_A.weight": torch.randn(2, 16, generator=generator),
        "layers.0.attention.to_q.lora_B.weight": torch.randn(16, 2, generator=generator),
    }
    ZImagePipeline.save_lora_weights(tmp_path / "lora", transformer_lora_layers=layers)
    merged = our_latents(load_model(str(tmp_path / "model"), lora=str(tmp_path / "lora")), noise(), 1.0)
    plain = own_latents(pipeline, noise(), 1.0)
    pipeline.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(merged, own_latents(pipeline, noise(), 1.0), rtol=1e-4, atol=1e-4)
    assert (merged - plain).abs().max() > 1e-2


def test_the_network_is_stored_in_8_bits(tmp_path: Path) -> None:
    random_pipeline().save_pretrained(tmp_path)
    loaded = renoise.load(tmp_path, num_inference_steps=2, layerwise_casting=True)
    stored = {weight.dtype for weight in loaded.model.network.parameters()}
    assert torch.float8_e4m3fn in stored
    assert our_latents(loaded.model, noise(), 1.0).isfinite().all()


def test_sizes_that_make_no_whole_patches_are_refused(model: DiffusionModel) -> None:
    loaded = renoise.load(random_pipeline(), num_inference_steps=2)
    assert model.size_multiple == 4
    assert model.default_resolution == 4 * 32
    with pytest.raises(InputError, match=r"multiple.* 4"):
        loaded.invert(torch.rand(1, 3, 18, 16), "a cat")


def test_an_editor_of_attention_is_refused(model: DiffusionModel) -> None:
    with pytest.raises(InputError, match=r"^PromptToPrompt needs attention maps, which a ZImageTrans.* does not give$"):
        check_needs(PromptToPrompt(), model, Schedule.from_scheduler(model.scheduler, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cap_feat_dim": 24}, "takes prompt embeddings of size 24, and the text encoder makes 16"),
        ({"in_channels": 8}, "takes 8 channels, and its autoencoder makes 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=rf"^checkpoint: the ZImagePipeline does not fit ZImagePipeline: .*{message}$"):
        wrap_pipeline(random_pipeline(**change))


def test_a_tokenizer_without_a_usable_chat_template_and_a_tiny_autoencoder_are_refused() -> None:
    pipeline = random_pipeline()
    pipeline.tokenizer.chat_template = "{{ messages[0].role }}"
    with pytest.raises(InputError, match=r"the chat template of its tokenizer leaves out the prompt$"):
        wrap_pipeline(pipeline)
    pipeline.tokenizer.chat_template = None
    with pytest.raises(InputError, match=r"its tokenizer has no chat template$"):
        wrap_pipeline(pipeline)
    pipeline.vae = AutoencoderTiny(latent_channels=4).eval()
    with pytest.raises(InputError, match=r"an AutoencoderTiny is too inaccurate for inversion"):
        wrap_pipeline(pipeline)


def test_the_steps_are_not_rounded_where_new_tensors_are_in_bfloat16() -> None:
    model = wrap_pipeline(random_pipeline())
    expected = model.read_schedule(model.scheduler, 8)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert model.read_schedule(model.scheduler, 8) == expected
    finally:
        torch.set_default_dtype(torch.float32)
